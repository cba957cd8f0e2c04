"""A limit for code that others wrote and that this thread has to wait for, such as a regular expression of a schema."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class OutOfTimeError(Exception):
    """It took longer than it may."""


class _Alarm(BaseException):
    """Passes whatever `except Exception` stands between."""


def within(limit_s: float, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call the function, which may use `limit_s` seconds of this process's CPU. Raises OutOfTimeError.

    A signal ends it, also inside `re`, which holds all of Python's threads meanwhile. Signals are for the main thread:
    on another there is no limit. It costs 1 µs.
    """
    if threading.current_thread() is not threading.main_thread():
        return function(*args, **kwargs)
    if signal.getsignal(signal.SIGVTALRM) is not _ring:
        signal.signal(signal.SIGVTALRM, _ring)
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, limit_s)
        try:
            return function(*args, **kwargs)
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    except _Alarm:
        raise OutOfTimeError from None


def _ring(*_: object) -> None:
    raise _Alarm
