"""Keeps looking at the pipelines that somebody asks for, and hands what was seen to whoever waits for it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from streamer.errors import DependencyError, StreamerError
from streamer.ops.scaling import ScaleWatch, Seen

_log = logging.getLogger(__name__)

STALE_S: Final = 45.0
"""What is older is not told. One look may take half a minute where brokers are slow."""
_REPORTS_EVERY_S: Final = 5.0
_AT_ONCE: Final = 8


class Watching:
    """A loop for each pipeline that was asked for, from then on, and one that reads the reports."""

    def __init__(self, watch: ScaleWatch, every_s: float) -> None:
        self._watch = watch
        self._every_s = every_s
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="looks")
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._last: dict[str, Seen | StreamerError] = {}
        self._looked = asyncio.Condition()
        self._learned = asyncio.Event()

    async def now(self, name: str) -> Seen:
        """The newest look at a pipeline. Raises StreamerError where it failed, or is too old."""
        self._ask(name)
        try:
            async with asyncio.timeout(STALE_S), self._looked:
                await self._looked.wait_for(lambda: name in self._last)
        except TimeoutError:
            raise DependencyError(f"the brokers did not answer about pipeline {name} within {STALE_S:g} s") from None
        last = self._last[name]
        if isinstance(last, StreamerError):
            raise last.with_traceback(None)
        age_s = time.monotonic() - last.at_s
        if age_s > STALE_S:
            raise DependencyError(f"the brokers' last answer about pipeline {name} is {age_s:.0f} s old")
        return last

    async def every(self, name: str) -> AsyncIterator[Seen]:
        """Each look at a pipeline from the newest on. Those that fail are left out: the next may not."""
        self._ask(name)
        seen: Seen | StreamerError | None = None
        while True:
            async with self._looked:
                await self._looked.wait_for(lambda before=seen: self._last.get(name) is not before)  # type: ignore[misc]
                seen = self._last[name]
            if isinstance(seen, Seen):
                yield seen

    def close(self) -> None:
        """Look no more. Looks that are under way end by themselves."""
        for task in self._tasks.values():
            task.cancel()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _ask(self, name: str) -> None:
        self._start("", self._read_reports)
        self._start(name, lambda: self._look_on(name))

    def _start(self, name: str, loop: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if name not in self._tasks:
            self._tasks[name] = asyncio.create_task(loop())

    async def _look_on(self, name: str) -> None:
        await self._learned.wait()
        works = None
        while True:
            began = time.monotonic()
            found = await self._tried(f"look at pipeline {name}", self._watch.look, name)
            before = self._last.get(name)
            if isinstance(found, StreamerError):
                if not isinstance(before, StreamerError):
                    _log.warning(
                        "a pipeline can't be looked at", extra={"data": {"pipeline": name, "error": str(found)}}
                    )
            elif found.works != works:
                works = found.works
                data = {"pipeline": name, "records": round(found.backlog.records) + found.backlog.stuck}
                _log.info("a pipeline has work" if works else "a pipeline has no work", extra={"data": data})
            async with self._looked:
                self._last[name] = found
                self._looked.notify_all()
            await asyncio.sleep(max(self._every_s - (time.monotonic() - began), 0.05))

    async def _read_reports(self) -> None:
        failing = False
        while True:
            found = await self._tried("read reports", self._watch.read_reports)
            if isinstance(found, StreamerError) and not failing:
                data = {"error": str(found)}
                _log.warning("reports can't be read: the replicas' capacity is not learned", extra={"data": data})
            failing = isinstance(found, StreamerError)
            self._learned.set()
            await asyncio.sleep(_REPORTS_EVERY_S)

    async def _tried(self, what: str, call: Callable[..., Any], *arguments: str) -> Any:
        """What it returns, or why it failed."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, call, *arguments)
        except StreamerError as error:
            return error
        except Exception as error:
            _log.error("a look ended with an exception", exc_info=error)
            return StreamerError(f"this scaler failed to {what}: {type(error).__name__}; its log says where")
