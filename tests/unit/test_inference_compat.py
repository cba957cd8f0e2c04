"""Private names of libraries: where one is gone, the plain way is taken."""

from __future__ import annotations

import ast
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from streamer.inference.backends import compat
from streamer.inference.backends.packed_linear import pack

INFERENCE = Path(compat.__file__).parents[1]
PRIVATE = {"output_router", "_cached_continuous_batching_manager", "_linear_pointwise", "_reorder_linear_weight"}


@pytest.mark.parametrize("path", sorted(INFERENCE.rglob("*.py")), ids=lambda path: path.name)
def test_private_names_stand_in_one_file(path: Path) -> None:
    """Nobody else reads them."""
    names = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
    assert path.name == "compat.py" or not names & PRIVATE


def test_a_manager_without_its_queue_leaves_nothing() -> None:
    """Its requests are answered anew."""
    assert compat.results_left(SimpleNamespace()) == []


def test_a_torch_without_the_products_keeps_plain_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is replaced, and it is said once."""
    monkeypatch.setattr(torch.ops, "mkldnn", SimpleNamespace())
    network = torch.nn.Sequential(torch.nn.Linear(2, 2))
    assert not pack(network).replaced


def test_a_network_that_kept_no_manager_is_left_alone() -> None:
    """Forgetting twice is forgetting once."""
    network = torch.nn.Linear(2, 2)
    before = dict(vars(network))
    compat.forget_manager(network)
    compat.forget_manager(network)
    assert vars(network) == before
