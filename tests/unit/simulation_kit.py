"""Bugs to plant in the code under simulation, and the search for the seed that finds one."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable
from typing import Any

import pytest

from streamer.simulation.judge import ViolationError
from streamer.simulation.life import Life


def first_failing(seeds: int, wanted: str = "", likely: int = 0) -> ViolationError:
    """What the first seed that breaks a law says, with these words; the `likely` one is tried first, to save time.
    Fails when none does."""
    for seed in (likely, *range(seeds)):
        try:
            Life(seed).run()
        except ViolationError as violation:
            if wanted in violation.anomaly:
                return violation
            print(violation.anomaly)
    pytest.fail(f"none of {seeds} seeds found the planted bug")


def plant(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, old: str, new: str) -> None:
    """Replace a piece of the source of the method `owner.name`: a bug that somebody could make."""
    made = mutate(owner, name, old, new)
    is_static = isinstance(inspect.getattr_static(owner, name), staticmethod)
    monkeypatch.setattr(owner, name, staticmethod(made) if is_static else made)


def mutate(owner: Any, name: str, old: str, new: str) -> Any:
    """The method `owner.name` with a piece of its source replaced: a bug that somebody could make."""
    method: Any = getattr(owner, name)
    method = method.fget if isinstance(method, property) else method
    code = textwrap.dedent(inspect.getsource(method))
    assert code.count(old) == 1, f"the source of {name} has changed: plant the bug anew"
    scope = dict(vars(inspect.getmodule(owner)))
    exec("from __future__ import annotations\n" + code.replace(old, new).replace("@property\n", ""), scope)
    made: Callable[..., Any] = scope[name]
    return property(made) if isinstance(getattr(owner, name), property) else made
