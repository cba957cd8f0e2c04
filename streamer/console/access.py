"""Who may do what: the token, the names that the page answers to, and what its answers let a browser do."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import socket
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from streamer.errors import ConfigurationError, UsageError

MIN_TOKEN_CHARS: Final = 16
TOKEN_VARIABLE: Final = "STREAMER_CONSOLE_TOKEN"
UNNAMED: Final = "operator"
_NAMED: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9._@-]{0,63}):\s*(\S.*)")
_FIX: Final = f"write one with `openssl rand -hex 16 > FILE` and name it with --token-file, or set {TOKEN_VARIABLE}"

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
    """What this console allows. `token_names` are the names of the tokens by their SHA-256, empty for no token;
    `private` asks for a token to read, too, and `private_texts` to read what may quote an event."""

    token_names: Mapping[bytes, str] = field(default_factory=dict)
    allow_replay: bool = False
    private: bool = False
    show_text: bool = False
    private_texts: bool = False

    def bearer(self, authorization: str) -> str | None:
        """The name of the token that this Authorization header bears, None for none; takes as long for any wrong
        one."""
        scheme, _, given = authorization.partition(" ")
        digest = hashlib.sha256(given.strip().encode("utf-8", "replace")).digest()
        found = [name for known, name in self.token_names.items() if hmac.compare_digest(digest, known)]
        return found[0] if found and scheme.lower() == "bearer" else None


def make_access(
    host: str, *, allow_replay: bool, show_text: bool, tokens: Mapping[str, str], proxied: bool = False
) -> Access:
    """What the options ask for; `tokens` by name, and whether a proxy lets others reach this machine. Raises UsageError
    where they lack a token."""
    private, private_texts = not is_loopback(host), show_text and proxied
    if not tokens:
        if allow_replay:
            raise UsageError(f"--allow-replay needs a token: {_FIX}")
        if private:
            raise UsageError(f"--host {host} can be reached from other machines, which needs a token: {_FIX}")
        if private_texts:
            raise UsageError(f"--show-text behind a proxy needs a token: {_FIX}")
        return Access(show_text=show_text)
    for name, token in tokens.items():
        if len(token) < MIN_TOKEN_CHARS:
            which = "the token" if name == UNNAMED else f"the token of {name}"
            raise UsageError(f"{which} has fewer than {MIN_TOKEN_CHARS} characters: {_FIX}")
    digests = {hashlib.sha256(token.encode()).digest(): name for name, token in tokens.items()}
    return Access(digests, allow_replay, private, show_text, private_texts)


def read_tokens(file: Path | None, variable: str | None) -> dict[str, str]:
    """The tokens by name, of the file, else of the environment; none where there is none. Raises ConfigurationError."""
    if file is None:
        return _tokens(TOKEN_VARIABLE, variable or "")
    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigurationError(f"--token-file {file}: can't be read ({why}); {_FIX}") from None
    tokens = _tokens(f"--token-file {file}", text)
    if not tokens:
        raise ConfigurationError(f"--token-file {file}: it is empty; {_FIX}")
    return tokens


def _tokens(where: str, text: str) -> dict[str, str]:
    """One a line: NAME:TOKEN, or a token without a name."""
    tokens: dict[str, str] = {}
    for number, line in enumerate(filter(None, map(str.strip, text.splitlines())), 1):
        match = _NAMED.fullmatch(line)
        name, token = (match[1], match[2]) if match else (UNNAMED, line)
        if name in tokens:
            raise ConfigurationError(f"{where}, line {number}: {name} has a token already; write NAME:TOKEN, once each")
        tokens[name] = token
    return tokens


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def knows_host(header: str, host: str, names: Collection[str] = ()) -> bool:
    """Whether a Host header names this machine: an address, `localhost`, its own name, or what --host or --name says.

    A page of somebody else's can have its name resolve to our address (DNS rebinding); its Host header still says that
    name.
    """
    name = header.rpartition(":")[0] if header.rpartition(":")[2].isdecimal() else header
    try:
        ipaddress.ip_address(name.strip("[]"))
        return True
    except ValueError:
        known = {"localhost", host.lower(), socket.gethostname().lower(), *map(str.lower, names)}
        return name.lower().rstrip(".") in known
