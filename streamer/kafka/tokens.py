"""Login tokens for SASL OAUTHBEARER, from a function that the configuration names (`kafka.oauth_callback`)."""

from __future__ import annotations

import importlib
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final

from streamer.errors import ConfigurationError, DependencyError

Token = tuple[str, float, str, dict[str, str]]

_SHAPE = 'it must return ("token", expiry in seconds since 1970), and if needed a principal and a dict of extensions'
_IN_MS = 100_000_000_000  # a time in seconds reaches this in the year 5138
_PAUSES_S = (0.5, 1.0, 2.0)
_OUTAGE_S = 60.0

_log = logging.getLogger(__name__)


class Tokens:
    """Asks the function for a token. Clients of a process share it for the first half of its life.

    librdkafka asks when a client is made, and again at 80 % of the token's life, on a thread of its own: a client that
    nobody polls is served too. Where this raises, it asks again after 10 s.
    """

    def __init__(
        self,
        function: Callable[[str], Any],
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._function = function
        self._now = now
        self._sleep = sleep
        self._lock = threading.Lock()
        self._last: Token | None = None
        self._fresh_until = 0.0
        self._failing = False
        self._failed_at = float("-inf")

    @property
    def lacking(self) -> bool:
        """Whether the function failed within the last minute: a login that is refused then may succeed later."""
        return self._now() - self._failed_at < _OUTAGE_S

    def __call__(self, config: str) -> Token:
        """A token, for what `sasl.oauthbearer.config` says. If the function fails, the last one while it is valid."""
        with self._lock:
            if self._last is not None and self._now() < self._fresh_until:
                return self._last
            try:
                found = token_of(self._function(config), self._now())
            except Exception as error:
                self._failing = True
                self._failed_at = self._now()
                _log.warning("no login token from kafka.oauth_callback: it %s; it is asked again", _why(error))
                if self._last is not None and self._now() < self._last[1]:
                    return self._last
                raise
            if self._failing:
                self._failing = False
                _log.info("kafka.oauth_callback gives login tokens again")
            self._last = found
            self._fresh_until = (self._now() + found[1]) / 2
            return found

    def ready(self, config: str) -> None:
        """Have a token before a client is made: a client waits 10 s for its first one, says nothing of the function's
        error and can't be used then. Raises DependencyError."""
        for pause_s in (*_PAUSES_S, None):
            try:
                self(config)
                return
            except Exception as error:
                if pause_s is None:
                    raise DependencyError(
                        f"kafka.oauth_callback {_why(error)}; correct it, or see that what it asks answers"
                    ) from None
                self._sleep(pause_s)


class _NoTokenError(ValueError):
    """What a function returned is no token."""


def token_of(returned: Any, now: float) -> Token:
    """What the function returned, checked: the client asks no more after a value of another type. Raises ValueError,
    without a word of what was returned."""
    if not isinstance(returned, tuple | list) or not 2 <= len(returned) <= 4:
        raise _NoTokenError(f"returned {type(returned).__name__}; {_SHAPE}")
    token, expiry = returned[:2]
    principal = returned[2] if len(returned) > 2 else ""
    extensions = returned[3] if len(returned) > 3 else {}
    if not isinstance(token, str) or not token:
        raise _NoTokenError(f"returned a token that is no text; {_SHAPE}")
    if isinstance(expiry, bool) or not isinstance(expiry, int | float):
        raise _NoTokenError(f"returned an expiry that is no number; {_SHAPE}")
    if expiry > _IN_MS:
        raise _NoTokenError("returned an expiry in milliseconds; divide it by 1000")
    if expiry <= now:
        raise _NoTokenError("returned a token that has expired; return a new one, and look at this machine's clock")
    texts = [principal, *extensions.keys(), *extensions.values()] if isinstance(extensions, dict) else [None]
    if not all(isinstance(text, str) for text in texts):
        raise _NoTokenError(f"returned a principal or extensions that are no texts; {_SHAPE}")
    return token, float(expiry), principal, dict(extensions)


def _why(error: Exception) -> str:
    """What went wrong and where. The message stays out unless it is ours: it may quote a secret."""
    if isinstance(error, _NoTokenError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    frame = next((frame for frame in frames if frame.filename != __file__), frames[-1])  # in the function
    return f"raised {type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}"


@cache
def tokens(name: str) -> Tokens:
    """Those of `module:function`; one object for all clients of this process. Raises ConfigurationError."""
    module, _, attribute = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:  # behind all that is installed, as for the model's own class
        sys.path.append(here)
    try:
        function = getattr(importlib.import_module(module), attribute)
    except AttributeError:
        raise ConfigurationError(
            f"kafka.oauth_callback: module {module} has no function {attribute}; name one that it has"
        ) from None
    except Exception as error:
        why = str(error) if isinstance(error, ImportError) else type(error).__name__  # others may quote a secret
        raise ConfigurationError(
            f"kafka.oauth_callback: module {module} can't be imported ({why}); start in the directory that holds it, or"
            " install it"
        ) from None
    if not callable(function):
        raise ConfigurationError(f"kafka.oauth_callback: {name} is no function; name one")
    _IN_USE.append(made := Tokens(function))
    return made


_IN_USE: Final[list[Tokens]] = []


def out_of_tokens() -> bool:
    """Whether a function that this process logs in with has failed within the last minute."""
    return any(one.lacking for one in _IN_USE)
