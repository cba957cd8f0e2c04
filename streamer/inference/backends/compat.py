"""Names of torch and transformers that are private to them, or set where they are only meant to be asked. All of them
stand here, each with the version that it was read from. Where one is gone, what it was for is done the plain way, and
the log says so once: a library's next version makes nothing fail.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, Final

import torch

log = logging.getLogger(__name__)

_UNUSED: Final = ("is_scipy_available", "is_sklearn_available")
_said: set[str] = set()


def _gone(name: str, instead: str) -> None:
    if name not in _said:
        _said.add(name)
        log.warning("%s no longer exists in this version: %s", name, instead)


# --- transformers 5.17 -----------------------------------------------------------------------------------------------


def leave_out_unused_packages() -> None:
    """Tell transformers that scipy and scikit-learn are not there. It imports them wherever they are installed, for the
    losses of detectors and for assisted generation, which no task here uses: a second of each start."""
    utils: Any = sys.modules["transformers.utils"]
    for name in _UNUSED:
        if hasattr(utils, name):
            setattr(utils, name, lambda: False)
        else:
            _gone(f"transformers.utils.{name}", "a worker starts a little later")


def bring_unused_packages_back() -> None:
    """The opposite, for a process that has other users of transformers."""
    utils: Any = sys.modules.get("transformers.utils")
    for name in _UNUSED if utils is not None else ():
        if (true := getattr(utils.import_utils, name, None)) is not None:
            setattr(utils, name, true)


def results_left(manager: Any) -> list[Any]:
    """What a manager of continuous batching that has ended still has to give; without it these requests run again."""
    try:
        queue = manager.output_router.output_queue
    except AttributeError:
        _gone("ContinuousBatchingManager.output_router", "requests that ended just before it did are computed again")
        return []
    found = []
    while not queue.empty():
        found.append(queue.get(block=False))
    return found


def forget_manager(network: Any) -> None:
    """Let the network make a new manager: it keeps the one that it made first, also one that has ended."""
    network.__dict__.pop("_cached_continuous_batching_manager", None)


# --- torch 2.15 -------------------------------------------------------------------------------------------------------


def has_laid_out_products() -> bool:
    """Whether this torch can multiply by weights that lie as oneDNN wants them."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    there = all(hasattr(torch.ops.mkldnn, name) for name in ("_reorder_linear_weight", "_linear_pointwise"))
    if not there:
        _gone("torch.ops.mkldnn._linear_pointwise", "linear layers are not laid out, and a little slower")
    return there


def laid_out(weight: torch.Tensor, rows: int) -> torch.Tensor:
    """A (out, in) weight as oneDNN wants it for about so many rows; only `product` reads it."""
    made: torch.Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, rows)
    return made


def product(rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """What `torch.nn.functional.linear` gives of (rows, in), by a weight that is laid out."""
    made: torch.Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
    return made
