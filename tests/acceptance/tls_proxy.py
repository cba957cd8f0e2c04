"""TLS in front of a server that has none."""

from __future__ import annotations

import asyncio
import ssl
import threading
from contextlib import suppress
from typing import Self

from tests.acceptance.certificates import Certificates


class TlsProxy:
    """Takes TLS connections on a free loopback port and carries them on to `to_port` in the clear."""

    def __init__(self, to_port: int, certificates: Certificates) -> None:
        self.port = 0
        self._to_port = to_port
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(certificates.certificate, certificates.key)
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._end = asyncio.Event()
        self._tasks: set[asyncio.Task[None] | None] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()
        self._loop.close()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0, ssl=self._context)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._end.wait()
        server.close()
        # A handshake under way may yet become a connection.
        while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0)  # the loop closes their sockets

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._tasks.add(task)  # the loop itself would let it be collected while it waits
        self._writers.append(writer)
        try:
            to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self._to_port)
            self._writers.append(to_writer)
            await asyncio.gather(_carry(reader, to_writer), _carry(to_reader, writer))
        except (asyncio.CancelledError, OSError):  # our own end, or nobody is behind us
            writer.close()
        finally:
            self._tasks.discard(task)


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError, ssl.SSLError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.close()
