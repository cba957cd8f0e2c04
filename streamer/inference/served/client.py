"""One server over HTTP: kept connections, one exchange at a time for each call."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Iterator
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from streamer.errors import ModelError
from streamer.extras import install_command
from streamer.inference.spec import ServedSpec

CONNECT_S: Final = 10.0
MOST_BYTES: Final = 16 << 20
"""Of an answer to one text, or of up to sixteen: each may have vectors of 32,768 numbers."""
_PROXY: Final = "the proxy that HTTP_PROXY, HTTPS_PROXY or ALL_PROXY names"


class Reply(NamedTuple):
    """A whole answer."""

    status: int
    body: bytes
    headers: Any


class NoReplyError(Exception):
    """There was no whole answer. `str()` says why; `down`: nobody is there; `slow`: there was no time; `setting`: so it
    will be for ever, with this configuration."""

    def __init__(self, words: str, *, down: bool = False, slow: bool = False, setting: bool = False) -> None:
        super().__init__(words)
        self.down = down
        self.slow = slow
        self.setting = setting


class ServerClient:
    """Of the server at `url`. Used in one event loop."""

    def __init__(self, url: str, served: ServedSpec) -> None:
        """Raises `ModelError`: no HTTP client here, no key in the environment, no certificates in the file."""
        try:
            import httpx
        except ImportError:
            command = install_command("served")
            raise ModelError(f"a served model needs httpx, which is not installed; install it with {command}") from None
        self._httpx = httpx
        self._url = url
        self._timeout_s = served.timeout_s
        self._most_bytes = MOST_BYTES * max(16, served.batch) // 16
        headers = {"accept": "application/json", "content-type": "application/json"}
        if served.key_env:
            headers["authorization"] = f"Bearer {_key(served.key_env)}"
        most = served.requests + 4
        try:
            self._client = httpx.AsyncClient(
                headers=headers,
                verify=_certificates(served.ca),
                limits=httpx.Limits(max_connections=most, max_keepalive_connections=most, keepalive_expiry=60.0),
                timeout=httpx.Timeout(served.timeout_s, connect=min(CONNECT_S, served.timeout_s)),
            )
        except (ValueError, ImportError, httpx.InvalidURL):  # the words may quote a password
            raise ModelError(f"{_PROXY} is no http:// or https:// address; correct or unset the variable") from None
        self._by_proxy = is_by_proxy(url)

    async def post(self, path: str, body: bytes) -> Reply:
        """TextRequest. Raises `NoReplyError`."""
        return await self._exchange("POST", path, body)

    async def get(self, path: str) -> Reply:
        """Raises `NoReplyError`."""
        return await self._exchange("GET", path, None)

    async def close(self) -> None:
        """End the connections."""
        await self._client.aclose()

    async def _exchange(self, method: str, path: str, body: bytes | None) -> Reply:
        httpx = self._httpx
        try:
            async with asyncio.timeout(self._timeout_s):
                try:
                    return await self._send(method, path, body)
                except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
                    # A server may end a connection that was kept just as it is used again: no failure of it.
                    return await self._send(method, path, body)
        except (TimeoutError, httpx.ReadTimeout, httpx.WriteTimeout):
            words = f"it did not answer within served_timeout_s ({self._timeout_s:g} s)"
            raise NoReplyError(words, slow=True) from None
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise self._unconnected(error) from None
        except httpx.ProxyError as error:
            status = str(error)[:3]
            words = f" ({status})" if status.isdecimal() else ""
            raise NoReplyError(f"{_PROXY} lets nothing through{words}", down=True, setting=status == "407") from None
        except httpx.DecodingError:
            raise NoReplyError("its answer can't be unpacked by its content-encoding") from None
        except httpx.TransportError as error:
            raise NoReplyError(f"the connection ended before the answer was whole ({type(error).__name__})") from None
        except httpx.InvalidURL:
            raise NoReplyError("its URL can't be read", setting=True) from None

    async def _send(self, method: str, path: str, body: bytes | None) -> Reply:
        """Of an answer that is larger than any can be nothing is kept."""
        whole = bytearray()
        async with self._client.stream(method, self._url + path, content=body) as response:
            async for part in response.aiter_bytes():
                whole += part
                if len(whole) > self._most_bytes:
                    return Reply(response.status_code, b"", response.headers)
        return Reply(response.status_code, bytes(whole), response.headers)

    def _unconnected(self, error: Exception) -> NoReplyError:
        failure = _unconnected(error)
        return NoReplyError(f"{_PROXY}: {failure}", down=True) if self._by_proxy and not failure.setting else failure


def is_by_proxy(url: str) -> bool:
    """Whether the environment names a proxy for it."""
    parts = urlsplit(url)
    proxies = getproxies()
    named = proxies.get(parts.scheme) or proxies.get("all")
    return bool(named) and not proxy_bypass(parts.netloc)


def _unconnected(error: Exception) -> NoReplyError:
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        words = "its certificate is not one that this machine trusts: name the CA's file in served_ca"
        return NoReplyError(words, down=True, setting=True)
    if "WRONG_VERSION_NUMBER" in str(error):
        return NoReplyError("what answers there does not speak TLS: write http:// in its URL", down=True, setting=True)
    causes = list(_causes(error))
    if any(isinstance(cause, ConnectionError) for cause in causes):
        return NoReplyError("it refuses connections", down=True)
    words = next((cause.strerror for cause in causes if isinstance(cause, OSError) and cause.strerror), "")
    return NoReplyError(f"it can't be reached ({words or type(error).__name__})", down=True)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """From the innermost out."""
    inner = error.__cause__ or error.__context__
    if inner is not None:
        yield from _causes(inner)
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _causes(one)
    yield error


def _key(variable: str) -> str:
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ModelError(f"served_key_env: the environment variable {variable} is not set, or empty; put the key there")
    if not key.isascii() or not key.isprintable():
        raise ModelError(
            f"served_key_env: the variable {variable} holds signs that no HTTP header may have; correct it"
        )
    return key


def _certificates(file: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=file or None)
    except (OSError, ssl.SSLError) as error:
        raise ModelError(f"served_ca: {file} can't be read as certificates ({error.strerror or error})") from None
