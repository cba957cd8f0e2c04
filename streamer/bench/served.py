"""A model that a server runs: through a worker, against the shortest asynchronous client.

The server is a process of its own that answers every completion after the same time, as many at once as are asked.
"""

from __future__ import annotations

import asyncio
import queue
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import msgspec

from streamer.bench.harness.figures import Section, Target, compared, interleaved
from streamer.core.pipeline.protocol import ForwardDone, Input, Work, WorkerLost, WorkerReady
from streamer.errors import DependencyError
from streamer.inference.parent.pool import WorkerPool
from streamer.inference.spec import ServedSpec, WorkerSpec

_ANSWER: Final = msgspec.json.encode(
    {
        "model": "bench",
        "choices": [{"index": 0, "finish_reason": "stop", "text": " fine"}],
        "usage": {"prompt_tokens": 4, "completion_tokens": 1},
    }
)
_MODELS: Final = msgspec.json.encode({"data": [{"id": "bench"}]})
_START_S: Final = 30.0
LIKE_CLIENT: Final = Target(at_least=0.9)


def served_rate(
    requests: int, latency_s: float, in_flight: int, rounds: int, progress: Callable[[str], None]
) -> Section:
    """So many completions in each turn, with so many in flight."""
    texts = [f"text {number}" for number in range(requests)]
    with _server(latency_s) as url, _worker(url, in_flight) as (pool, posted):
        ours, bare = interleaved(
            rounds,
            {
                "our worker": lambda: requests / _through_worker(pool, posted, texts),
                "asynchronous client": lambda: requests / asyncio.run(_bare(url, texts, in_flight)),
            },
            progress,
        ).values()
    figure = compared("against an asynchronous client", ours, bare, ("streamer answers/s", "client's"), LIKE_CLIENT)
    notes = [
        f"{requests} completions of a server that answers each after {latency_s * 1e3:g} ms, {in_flight} in flight",
        f"median ratio of {rounds} interleaved rounds",
    ]
    return Section("A model that a server runs", [figure], notes)


async def _bare(url: str, texts: list[str], in_flight: int) -> float:
    """Seconds of the loop that people write: so many coroutines, one client, whose connections are open by then."""
    import httpx

    limits = httpx.Limits(max_connections=in_flight, max_keepalive_connections=in_flight)
    async with httpx.AsyncClient(limits=limits, timeout=60) as client:

        async def ask(waiting: Iterator[str]) -> None:
            for text in waiting:
                body = {"model": "bench", "prompt": text, "temperature": 0, "max_tokens": 16}
                response = await client.post(f"{url}/completions", json=body)
                response.raise_for_status()
                response.json()["choices"][0]["text"]

        async def ask_all(texts: list[str]) -> None:
            waiting = iter(texts)
            await asyncio.gather(*(ask(waiting) for _ in range(in_flight)))

        await ask_all(texts[:in_flight])
        began = time.perf_counter()
        await ask_all(texts)
        return time.perf_counter() - began


def _through_worker(pool: WorkerPool, posted: queue.SimpleQueue[Input], texts: list[str]) -> float:
    began, left = time.perf_counter(), len(texts)
    pool.send(0, Work(list(range(left)), texts, None, [{"max_new_tokens": 16}] * left))
    while left:
        fact = posted.get()
        if isinstance(fact, ForwardDone):
            left -= len(fact.numbers)
        elif isinstance(fact, WorkerLost):
            raise DependencyError(fact.message)
    return time.perf_counter() - began


@contextmanager
def _worker(url: str, in_flight: int) -> Iterator[tuple[WorkerPool, queue.SimpleQueue[Input]]]:
    posted: queue.SimpleQueue[Input] = queue.SimpleQueue()
    spec = WorkerSpec("bench", "text-generation", url, backend="openai", served=ServedSpec(requests=in_flight))
    pool = WorkerPool(spec, 1, posted.put)
    try:
        pool.start(0)
        while not isinstance(fact := posted.get(timeout=_START_S), WorkerReady):
            if isinstance(fact, WorkerLost):
                raise DependencyError(fact.message)
        yield pool, posted
    finally:
        pool.close(2.0)


@contextmanager
def _server(latency_s: float) -> Iterator[str]:
    command = [sys.executable, "-m", "streamer.bench.served", str(latency_s)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        finally:
            process.kill()


class _Answers(asyncio.Protocol):
    """One connection. Requests come whole and one at a time, as both clients send them."""

    def __init__(self, latency_s: float) -> None:
        self._latency_s = latency_s
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """As asyncio's."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """As asyncio's."""
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        if not end or len(body) < int(length or 0):
            return
        self._received = b""
        if head.startswith(b"GET"):
            self._write(_MODELS)
        else:
            asyncio.get_running_loop().call_later(self._latency_s, self._write, _ANSWER)

    def _write(self, body: bytes) -> None:
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        self._transport.write(head.encode() + body)


async def _serve(latency_s: float) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: _Answers(latency_s), "127.0.0.1", 0, backlog=1024)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(float(sys.argv[1])))
