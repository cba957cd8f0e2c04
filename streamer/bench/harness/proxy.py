"""A TCP proxy on the loopback address that does to a connection what networks do: slow it, blackhole it, cut it.

For Kafka it can cut at the very request that one waits for: it reads the frames' headers as they pass.
"""

from __future__ import annotations

import asyncio
import struct
import threading
from collections.abc import Callable

from streamer.local.ports import LOOPBACK

_CHUNK_BYTES = 1 << 16
_HEADER = struct.Struct(">ih")


class Proxies:
    """Proxies that share a thread. A context manager: all connections end with it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxies", daemon=True)
        self._proxies: list[Proxy] = []

    def __enter__(self) -> Proxies:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def open(self, upstream_port: int) -> Proxy:
        """A proxy that listens on a free port and forwards to `upstream_port`, which need not listen yet."""
        proxy = Proxy(upstream_port, self._loop)
        asyncio.run_coroutine_threadsafe(proxy.listen(), self._loop).result()
        self._proxies.append(proxy)
        return proxy

    async def _end(self) -> None:
        for proxy in self._proxies:
            proxy.stop()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Proxy:
    """One address. What is asked of it holds for connections that are open and for those to come."""

    def __init__(self, upstream_port: int, loop: asyncio.AbstractEventLoop) -> None:
        self.port = 0
        self.sprung = threading.Event()
        self._upstream_port = upstream_port
        self._loop = loop
        self._flows = asyncio.Event()
        self._flows.set()
        self._is_cut = False
        self._delay_s = 0.0
        self._trap: tuple[int, bool] | None = None
        self._connections: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._server: asyncio.Server | None = None

    def forward(self) -> None:
        """Be as if there were no proxy; what was held back goes on its way."""
        self._do(lambda: self._set(is_cut=False))

    def blackhole(self) -> None:
        """Take everything and pass nothing on, in either direction; connections stay open."""
        self._do(lambda: self._set(flows=False))

    def slow(self, delay_s: float) -> None:
        """Hold up whatever passes by so long, in each direction."""
        self._do(lambda: self._set(delay_s=delay_s))

    def cut(self) -> None:
        """Reset all connections, and every new one."""
        self._do(self._cut)

    def cut_at(self, api_key: int, *, deliver: bool) -> None:
        """Cut when the next Kafka request of this kind passes: after passing it on, so that only its answer is lost,
        or before. `sprung` says that it happened."""
        self.sprung.clear()
        self._do(lambda: self._set(trap=(api_key, deliver)))

    async def listen(self) -> None:
        """Begin; on the loop."""
        self._server = await asyncio.start_server(self._serve, LOOPBACK, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def stop(self) -> None:
        """End the server and all connections; on the loop."""
        if self._server is not None:
            self._server.close()
        self._cut()

    def _do(self, change: Callable[[], None]) -> None:
        """Make a change on the loop; returns when it is made."""

        async def changed() -> None:
            change()

        asyncio.run_coroutine_threadsafe(changed(), self._loop).result()

    def _set(
        self,
        *,
        flows: bool = True,
        is_cut: bool = False,
        delay_s: float = 0.0,
        trap: tuple[int, bool] | None = None,
    ) -> None:
        self._is_cut, self._delay_s, self._trap = is_cut, delay_s, trap
        if flows:
            self._flows.set()
        else:
            self._flows.clear()

    def _cut(self) -> None:
        self._set(is_cut=True)
        for client, upstream in list(self._connections):
            client.transport.abort()
            upstream.close()  # in order, so that what was passed on is read

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._flows.wait()
        if self._is_cut:
            writer.transport.abort()
            return
        try:
            upstream_reader, upstream = await asyncio.open_connection(LOOPBACK, self._upstream_port)
        except OSError:
            writer.transport.abort()
            return
        pair = (writer, upstream)
        self._connections.add(pair)
        pumps = [
            asyncio.create_task(self._pump(reader, upstream, Requests())),
            asyncio.create_task(self._pump(upstream_reader, writer, None)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._connections.discard(pair)
            for pump in pumps:
                pump.cancel()
            for each in pair:
                each.close()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, requests: Requests | None
    ) -> None:
        try:
            while chunk := await reader.read(_CHUNK_BYTES):
                if self._delay_s:
                    await asyncio.sleep(self._delay_s)
                await self._flows.wait()
                caught = requests is not None and self._caught(requests.begun_in(chunk))
                if caught and self._trap is not None and not self._trap[1]:
                    chunk = b""
                writer.write(chunk)
                await writer.drain()
                if caught:
                    self._cut()
                    self.sprung.set()
        except OSError:
            return

    def _caught(self, api_keys: list[int]) -> bool:
        return self._trap is not None and self._trap[0] in api_keys


class Requests:
    """Follows one direction of a Kafka connection, where each request begins with its size and its kind (api key).
    Layout: https://kafka.apache.org/protocol#protocol_messages"""

    def __init__(self) -> None:
        self._header = b""
        self._left = 0

    def begun_in(self, chunk: bytes) -> list[int]:
        """The kinds of the requests whose header ends in this chunk."""
        kinds = []
        at = 0
        while at < len(chunk):
            if self._left:
                step = min(self._left, len(chunk) - at)
                self._left -= step
                at += step
                continue
            taken = chunk[at : at + _HEADER.size - len(self._header)]
            self._header += taken
            at += len(taken)
            if len(self._header) == _HEADER.size:
                size, kind = _HEADER.unpack(self._header)
                self._header, self._left = b"", max(0, size - 2)
                kinds.append(kind)
        return kinds
