"""Login tokens for SASL OAUTHBEARER, from a function that the configuration names (`kafka.oauth_callback`)."""

from __future__ import annotations

import importlib
import logging
import re
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
# What the client takes; it says nothing of what it does not take, and of a token that the broker can't read.
_VISIBLE, _LETTERS, _WORDS = re.compile("[ -~]+"), re.compile("[A-Za-z]+"), re.compile(r"[\t\n\r -~]*")
_PAUSES_S = (0.5, 1.0, 2.0)
_OUTAGE_S = 60.0
DEADLINE_S: Final = 10.0
"""How long a call may take before it counts as failed; its answer is taken all the same when it comes."""
_IMPORT_S: Final = 60.0
_LONGEST_PAUSE_S: Final = 600.0  # between calls that hang: each leaves a thread behind

_log = logging.getLogger(__name__)


class Tokens:
    """Asks the function for a token. Clients of a process share it for the first half of its life.

    librdkafka asks when a client is made, and again at 80 % of the token's life, on a thread of its own: a client that
    nobody polls is served too. Where this raises, it asks again after 10 s. The function runs on another thread:
    one that hangs holds no client for longer than `deadline_s`.
    """

    def __init__(
        self,
        function: Callable[[str], Any],
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], object] = time.sleep,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self._function = function
        self._now = now
        self._sleep = sleep
        self._deadline_s = deadline_s
        self._call: _Call | None = None
        self._pause_s = deadline_s
        self._call_again_at = 0.0
        self._lock = threading.Lock()
        self._last: Token | None = None
        self._fresh_until = 0.0
        self._failing = ""
        self._failed_at = float("-inf")

    @property
    def trouble(self) -> str:
        """What the function did in place of giving a token, where there is none that is valid; else ""."""
        valid = self._last is not None and self._now() < self._last[1]
        return "" if valid else self._failing

    @property
    def lacking(self) -> bool:
        """Whether the function failed within the last minute: a login that is refused then may succeed later."""
        return self._now() - self._failed_at < _OUTAGE_S

    def __call__(self, config: str | None) -> Token:
        """A token, for what `sasl.oauthbearer.config` says; the client's None where that is not set is "" to the
        function. If it fails, the last token while that is valid."""
        with self._lock:
            if self._last is not None and self._now() < self._fresh_until:
                return self._last
            try:
                found = token_of(self._ask(config or ""), self._now())
            except (Exception, SystemExit) as error:
                self._failing, before = _why(error), self._failing
                self._failed_at = self._now()
                if not (isinstance(error, _HangsError) and before):  # each client that asks meanwhile hears of it
                    _log.warning("no login token from kafka.oauth_callback: it %s; it is asked again", self._failing)
                if self._last is not None and self._now() < self._last[1]:
                    return self._last
                if isinstance(error, SystemExit):  # it would end the program, and print a text that may be a secret
                    raise _NoTokenError("raised SystemExit") from None
                raise
            if self._failing:
                self._failing = ""
                _log.info("kafka.oauth_callback gives login tokens again")
            self._last = found
            self._fresh_until = (self._now() + found[1]) / 2
            return found

    def _ask(self, config: str) -> Any:
        """What the function returns. Raises what it does, and _HangsError."""
        call, now, wait_s = self._call, self._now(), 0.0
        if call is None or (now >= self._call_again_at and not call.ended.is_set()):
            call = self._call = _Call(self._function, config, now)
            self._call_again_at, wait_s = now + self._pause_s, self._deadline_s
            self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
        if not call.ended.wait(wait_s):
            raise _HangsError(f"has not answered for {self._now() - call.began:.0f} s")
        self._call, self._pause_s = None, self._deadline_s
        return call.result()

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


class _HangsError(_NoTokenError):
    """It has returned nothing in time."""


class _Call:
    """A call of a user's function on a thread that nobody waits for longer than he likes."""

    def __init__(self, function: Callable[[str], Any], argument: str, began: float) -> None:
        self.began = began
        self.ended = threading.Event()
        self._function, self._argument = function, argument
        self._returned: Any = None
        self._error: BaseException | None = None
        threading.Thread(target=self._run, name="oauth-callback", daemon=True).start()

    def result(self) -> Any:
        """What it returned, once it has ended. Raises what it raised."""
        if self._error is not None:
            raise self._error
        return self._returned

    def _run(self) -> None:
        try:
            self._returned = self._function(self._argument)
        except BaseException as error:  # SystemExit, too
            self._error = error
        self.ended.set()


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
    if not _VISIBLE.fullmatch(token):
        raise _NoTokenError("returned a token with a line break in it, or another character that none has")
    if isinstance(expiry, bool) or not isinstance(expiry, int | float) or expiry != expiry:
        raise _NoTokenError(f"returned an expiry that is no number; {_SHAPE}")
    if expiry > _IN_MS:
        raise _NoTokenError("returned an expiry in milliseconds; divide it by 1000")
    if expiry <= now:
        raise _NoTokenError("returned a token that has expired; return a new one, and look at this machine's clock")
    texts = [principal, *extensions.keys(), *extensions.values()] if isinstance(extensions, dict) else [None]
    if not all(isinstance(text, str) for text in texts):
        raise _NoTokenError(f"returned a principal or extensions that are no texts; {_SHAPE}")
    if not all(_LETTERS.fullmatch(name) and name != "auth" for name in extensions):
        raise _NoTokenError("returned an extension whose name is not made of letters, or is auth; rename it")
    if not all(_WORDS.fullmatch(text) for text in extensions.values()):
        raise _NoTokenError("returned an extension whose value is not ASCII; correct it")
    return token, float(expiry), principal, dict(extensions)


def _why(error: BaseException) -> str:
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
        loading = _Call(importlib.import_module, module, 0.0)
        if not loading.ended.wait(_IMPORT_S):
            raise ConfigurationError(
                f"kafka.oauth_callback: module {module} has been importing for {_IMPORT_S:.0f} s; have it do in the"
                " function what waits for others"
            )
        function = getattr(loading.result(), attribute)
    except ConfigurationError:
        raise
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


def trouble_with_tokens() -> str:
    """What a function that this process logs in with did in place of giving a token; "" where there is a valid one."""
    return next((one.trouble for one in _IN_USE if one.trouble), "")


def out_of_tokens() -> bool:
    """Whether a function that this process logs in with has failed within the last minute."""
    return any(one.lacking for one in _IN_USE)
