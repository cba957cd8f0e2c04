"""Who answers at an address: for whoever is not answered as expected, and wants to say why.

The probes are what any client of these servers sends first; none of them logs in or changes anything.
"""

from __future__ import annotations

import socket
import ssl
from typing import Final

from streamer.core.surroundings import PeerInfo

WAIT_S: Final = 1.0
_MOST_BYTES: Final = 4096
_CORRELATION: Final = b"\0\0\x0d\x0c"
# SaslHandshake, version 1, for a mechanism called "-": the answer is an error and the mechanisms that there are.
_HANDSHAKE: Final = b"\0\x11\0\x01" + _CORRELATION + b"\xff\xff" + b"\0\x01-"
_PROBES: Final = {
    "Kafka": len(_HANDSHAKE).to_bytes(4) + _HANDSHAKE,
    "Redis": b"PING\r\n",
    "HTTP": b"GET / HTTP/1.0\r\n\r\n",
}
_REDIS_ANSWERS: Final = (b"+PONG", b"-NOAUTH", b"-NOPERM", b"-DENIED", b"-LOADING", b"-MASTERDOWN")


def look_at_peer(host: str, port: int, *, first: str, ca_file: str = "") -> PeerInfo:
    """Who is there; `first` is what is expected. Raises nothing. Takes some seconds where somebody stays silent."""
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return PeerInfo(address, resolves=False)
    try:
        socket.create_connection((host, port), WAIT_S).close()
    except OSError as error:
        return PeerInfo(address, refusal=error.strerror or f"no connection within {WAIT_S:g} s")
    tls, certificate = _tls(host, port, ca_file)
    for name in sorted(_PROBES, key=lambda name: name != first):
        answer = _ask(host, port, _PROBES[name], tls=tls)
        if _is_of(name, answer):
            mechanisms = _mechanisms(answer) if name == "Kafka" else ()
            return PeerInfo(address, speaks=name, tls=tls, certificate=certificate, mechanisms=mechanisms)
    return PeerInfo(address, tls=tls, certificate=certificate)


def refusal_of_socket(path: str) -> str:
    """Why the Unix socket of this path takes no connection; "" where it does."""
    try:
        with socket.socket(socket.AF_UNIX) as unix:
            unix.settimeout(WAIT_S)
            unix.connect(path)
    except OSError as error:
        return error.strerror or type(error).__name__
    return ""


def _tls(host: str, port: int, ca_file: str) -> tuple[bool, str]:
    """Whether TLS is spoken there, and what is wrong with the certificate; of that nothing where `ca_file` can't be
    used, which is for others to say."""
    try:
        context = ssl.create_default_context(cafile=ca_file or None)
    except OSError:
        context = _unverified()
    try:
        with _wrapped(host, port, context):
            return True, ""
    except ssl.SSLCertVerificationError as error:
        return True, error.verify_message
    except ssl.SSLError as error:
        return "ALERT" in (error.reason or ""), ""  # it asks for a certificate of ours, say
    except (OSError, ValueError):  # no name that a certificate could have
        return False, ""


def _unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _wrapped(host: str, port: int, context: ssl.SSLContext) -> ssl.SSLSocket:
    plain = socket.create_connection((host, port), WAIT_S)
    try:
        return context.wrap_socket(plain, server_hostname=host)
    except BaseException:
        plain.close()
        raise


def _ask(host: str, port: int, probe: bytes, *, tls: bool) -> bytes:
    """What is answered first, b"" for nothing."""
    try:
        with (
            _wrapped(host, port, _unverified()) if tls else socket.create_connection((host, port), WAIT_S) as connection
        ):
            connection.sendall(probe)
            return connection.recv(_MOST_BYTES)
    except OSError:
        return b""


def _is_of(name: str, answer: bytes) -> bool:
    match name:
        case "Kafka":
            return answer[4:8] == _CORRELATION
        case "Redis":
            return answer.startswith(_REDIS_ANSWERS)
        case _:
            return answer.startswith(b"HTTP/")


def _mechanisms(answer: bytes) -> tuple[str, ...]:
    """The logins that a listener of Kafka offers; none where it asks for none."""
    found, rest = [], answer[14:]
    while len(rest) > 2 and (size := int.from_bytes(rest[:2])):
        found.append(rest[2 : 2 + size].decode("ascii", "replace"))
        rest = rest[2 + size :]
    return tuple(found)
