"""Who may do what: the token, the names that the page answers to, and what its answers let a browser do."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from streamer.errors import ConfigurationError, UsageError

MIN_TOKEN_CHARS: Final = 16
TOKEN_VARIABLE: Final = "STREAMER_CONSOLE_TOKEN"
_MEND: Final = f"write one with `openssl rand -hex 16 > FILE` and name it with --token-file, or set {TOKEN_VARIABLE}"

HEADERS: Final = (
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none';"
        " form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=()"),
)


@dataclass(frozen=True, slots=True)
class Access:
    """What this console allows. `token_digest` is the token's SHA-256, None for no token; `private` asks for the token
    to read, too."""

    token_digest: bytes | None = None
    allow_replay: bool = False
    private: bool = False
    show_text: bool = False

    def admits(self, authorization: str) -> bool:
        """Whether this Authorization header bears the token; takes as long for any wrong one."""
        scheme, _, given = authorization.partition(" ")
        digest = hashlib.sha256(given.strip().encode("utf-8", "replace")).digest()
        right = hmac.compare_digest(digest, self.token_digest or bytes(len(digest)))
        return right and self.token_digest is not None and scheme.lower() == "bearer"


def make_access(host: str, *, allow_replay: bool, show_text: bool, token: str | None) -> Access:
    """What the options ask for. Raises UsageError where they lack a token."""
    private = not is_loopback(host)
    if token is None:
        if allow_replay:
            raise UsageError(f"--allow-replay needs a token: {_MEND}")
        if private:
            raise UsageError(f"--host {host} can be reached from other machines, which needs a token: {_MEND}")
        return Access(show_text=show_text)
    if len(token) < MIN_TOKEN_CHARS:
        raise UsageError(f"the token has fewer than {MIN_TOKEN_CHARS} characters: {_MEND}")
    return Access(hashlib.sha256(token.encode()).digest(), allow_replay, private, show_text)


def read_token(file: Path | None, variable: str | None) -> str | None:
    """The token of the file, else of the environment; None where there is none. Raises ConfigurationError."""
    if file is None:
        return variable.strip() if variable and variable.strip() else None
    try:
        token = file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigurationError(f"--token-file {file}: can't be read ({why}); {_MEND}") from None
    if not token:
        raise ConfigurationError(f"--token-file {file}: it is empty; {_MEND}")
    return token


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def knows_host(header: str, host: str) -> bool:
    """Whether a Host header names this machine: an address, `localhost`, its own name, or what --host says.

    A page of somebody else's can have its name resolve to our address (DNS rebinding); its Host header still says that
    name.
    """
    name = header.rpartition(":")[0] if header.rpartition(":")[2].isdecimal() else header
    try:
        ipaddress.ip_address(name.strip("[]"))
        return True
    except ValueError:
        return name.lower().rstrip(".") in {"localhost", host.lower(), socket.gethostname().lower()}
