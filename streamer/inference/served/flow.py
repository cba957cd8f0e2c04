"""Requests under way to one server, each tried until it is answered or its text is found to be at fault.

What the server is to blame for (429, 5xx, no answer in time, no connection) is tried again for as long as it takes.
What it says of one text is that text's failure; of several in one request they are parted until one stands alone. An
answer that is none is asked for again, and then a known text tells whose fault it was.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

from streamer.core.pacing import Pacing, pause_s
from streamer.core.record import Answer
from streamer.core.replies import Verdict, is_too_long, retry_after_s, verdict, words_of
from streamer.errors import Code, DataFailure, ExitCode, FailureClass
from streamer.inference.served.api import Answered, Api, MalformedError, TextRequest, WithheldError
from streamer.inference.served.client import NoReplyError, Reply, ServerClient
from streamer.inference.spec import ServedSpec
from streamer.inference.worker.forwarder import WorkerFailureError

log = logging.getLogger(__name__)

MALFORMED: Final = 3
"""So many answers to one text that are none, and a known text is asked."""
ASK_AFTER: Final = 32
"""So many texts refused in a row, and a known text is asked."""
REFUSALS: Final = 3
"""So many waves of refusals of the key, the address or the model's name end the run: a restart or a proxy gives one."""
STUCK: Final = 5
"""So many attempts, and a text counts as one that stands."""
_SPLIT_AFTER: Final = 2
_REQUEST_CHARACTERS: Final = 1 << 20
_CHECK_EVERY_S: Final = 30.0


@dataclass(slots=True, eq=False)
class Requested:
    """One computation."""

    number: int
    ask: TextRequest
    attempts: int = 0
    malformed: int = 0
    since: float = 0.0
    """When it was first asked."""


class RequestFlow:
    """To one server. All of it runs in one event loop. `fits` says whether an answer comes from the model that the
    worker has announced, `check` asks the server what it serves and returns why that is another model, "" for none."""

    def __init__(
        self,
        client: ServerClient,
        api: Api,
        served: ServedSpec,
        name: str,
        url: str,
        probe: TextRequest,
        fits: Callable[[Answered], bool],
        check: Callable[[], Awaitable[str]],
    ) -> None:
        self.pacing = Pacing(served.requests, served.timeout_s / 2)
        self.ended: list[tuple[int, Answer | DataFailure]] = []
        self.failure: WorkerFailureError | None = None
        self._client, self._api, self._served, self._name, self._url = client, api, served, name, url
        self._probe, self._fits, self._check = probe, fits, check
        self._waiting: deque[Requested] = deque()
        self._parts: deque[list[Requested]] = deque()
        self._later: list[tuple[float, int, list[Requested]]] = []
        self._sequence = count()
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._trouble = ""
        self._stuck: set[int] = set()
        self._refused_texts = self._refusals = self._strangers = 0
        self._down = self._doubtful = False
        self._counted_at = float("-inf")
        self._checked_at = time.monotonic()

    @property
    def holding(self) -> str:
        """Why the server is waited for; "" while it answers."""
        return f"{self._url}: {self._trouble}" if self._trouble and (self._down or self._stuck) else ""

    def add(self, item: Requested) -> None:
        """TextRequest for it at the next turn."""
        self._waiting.append(item)

    async def close(self) -> None:
        """End what is under way."""
        tasks = list(self._tasks)
        for task in tasks:
            task.remove_done_callback(self._done)
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def turn(self, timeout_s: float) -> None:
        """Let requests begin and end, until something has ended or `timeout_s` is over."""
        loop = asyncio.get_running_loop()
        self._changed.clear()
        self._pump()
        if not (self.ended or self.failure):
            timer = loop.call_later(timeout_s, self._changed.set)
            await self._changed.wait()
            timer.cancel()
        await asyncio.sleep(0)  # what else has ended by now

    def _pump(self) -> None:
        now = time.monotonic()
        while self._later and self._later[0][0] <= now:
            self._parts.append(heapq.heappop(self._later)[2])
        room = self.pacing.room(now)
        if self.failure is not None or room <= 0 or not (self._parts or self._waiting):
            return
        if self._doubtful or now - self._checked_at > _CHECK_EVERY_S:
            doubtful, self._checked_at = self._doubtful, now
            self._start(self._ask_what_is_served(doubtful))
            if doubtful:
                return
        while room > 0 and (self._parts or self._waiting):
            self._start(self._request(self._parts.popleft() if self._parts else self._next()))
            room -= 1

    def _next(self) -> list[Requested]:
        group = [self._waiting.popleft()]
        size = sum(map(len, group[0].ask.texts))
        while self._waiting and len(group) < self._api.batch and size < _REQUEST_CHARACTERS:
            group.append(self._waiting.popleft())
            size += sum(map(len, group[-1].ask.texts))
        return group

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        self.pacing.began()
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if (error := task.exception()) is not None:
            where = f"{type(error).__name__} in the client of {self._url}"
            self.failure = WorkerFailureError(FailureClass.DEVICE, where)
        if not self.ended:
            self._pump()
        if self.ended or self.failure is not None:
            self._changed.set()

    async def _request(self, group: list[Requested]) -> None:
        began = time.monotonic()
        for item in group:
            item.since = item.since or began
        asks = [item.ask for item in group]
        try:
            reply = await self._client.post(asks[0].path, self._api.body(asks, self._name))
        except NoReplyError as error:
            await self._server_failed(group, began, str(error), down=error.down, slow=error.slow)
            return
        match verdict(reply.status):
            case Verdict.ANSWER:
                await self._answered(group, began, reply)
            case Verdict.RECORD:
                await self._refused(group, began, reply)
            case Verdict.LOAD:
                self._overloaded(group, began, reply)
            case Verdict.SERVER:
                self.pacing.wait(time.monotonic(), retry_after_s(reply.headers.get("retry-after"), time.time()))
                await self._server_failed(group, began, said(reply, asks))
            case Verdict.SETTING:
                self._misdirected(group, began, said(reply, asks))

    # --- what a request comes to -----------------------------------------------------------------------------------

    async def _answered(self, group: list[Requested], began: float, reply: Reply) -> None:
        try:
            told = self._api.read(reply.body, reply.headers, [item.ask for item in group])
        except MalformedError as error:
            await self._malformed(group, began, str(error))
            return
        except WithheldError as error:
            self._works(began)
            self._end(group[0], DataFailure(Code.INFER_SERVER, f"the server gives no answer to this text: {error}"))
            return
        if not self._fits(told):
            self._of_another(group, began)
            return
        self._refused_texts = self._refusals = self._strangers = 0
        self._works(began)
        for item, answer in zip(group, told.answers, strict=True):
            self._end(item, answer)

    async def _malformed(self, group: list[Requested], began: float, words: str) -> None:
        self.pacing.failed(began, time.monotonic(), random.random())
        words = f"its answer is none: {words}"
        if len(group) > 1:
            self._part(group)
            return
        (item,) = group
        item.malformed += 1
        if item.malformed >= MALFORMED and await self._works_for_known():
            code = Code.INFER_SERVER
            self._end(item, DataFailure(code, f"the server answers a known text, and to this one {words}"))
            return
        self._again(group, words)

    async def _refused(self, group: list[Requested], began: float, reply: Reply) -> None:
        self._works(began)
        if len(group) > 1:
            self._part(group)
            return
        (item,) = group
        self._refused_texts += 1
        if self._refused_texts >= ASK_AFTER:
            self._refused_texts = 0
            if not await self._works_for_known():
                self._again(group, said(reply, [item.ask]))
                return
        code = Code.INFER_TOO_LONG if is_too_long(reply.status, reply.body) else Code.INFER_SERVER
        words = f"the server refuses this text: {said(reply, [item.ask])}"
        self._end(item, DataFailure(code, words, words_of(reply.body, item.ask.texts).partition(",")[0]))

    def _overloaded(self, group: list[Requested], began: float, reply: Reply) -> None:
        asked_s = retry_after_s(reply.headers.get("retry-after"), time.time())
        self.pacing.overloaded(began, time.monotonic(), asked_s, random.random())
        self._again(group, said(reply, [item.ask for item in group]))

    async def _server_failed(
        self, group: list[Requested], began: float, words: str, *, down: bool = False, slow: bool = False
    ) -> None:
        self.pacing.failed(began, time.monotonic(), random.random(), down=down, slow=slow)
        limit_s, item = self._served.deadline_s, group[0]
        if len(group) > 1 and item.attempts >= _SPLIT_AFTER and not self.pacing.is_failing:
            self._part(group)
            return
        if limit_s and len(group) == 1 and time.monotonic() - item.since > limit_s and await self._works_for_known():
            late = f"no answer to this text within served_deadline_s ({limit_s:g} s), though the server answers a known"
            self._end(
                item, DataFailure(Code.INFER_SERVER, f"{late} one; the last time {words}", attempts=item.attempts)
            )
            return
        self._again(group, words)

    def _misdirected(self, group: list[Requested], began: float, words: str) -> None:
        """Of the key, the address, the model's name."""
        self.pacing.failed(began, time.monotonic(), random.random())
        self._count_refusal(began, words)
        self._again(group, words)

    def _of_another(self, group: list[Requested], began: float) -> None:
        """An answer of another model than the results would name."""
        self.pacing.failed(began, time.monotonic(), random.random())
        self._strangers += self._is_new(began)
        if self._strangers >= REFUSALS:
            self._changed_model("its answers name another model or fingerprint")
        self._again(group, "it answers with another model or fingerprint than before")

    def _count_refusal(self, began: float, words: str) -> None:
        self._refusals += self._is_new(began)
        if self._refusals >= REFUSALS:
            self._fail(ExitCode.HALTED, f"{self._url}: {words}: correct the address, the key or served_model")

    def _is_new(self, began: float) -> bool:
        """Whether a request began after the last that was counted: all that are under way together count once."""
        new = began >= self._counted_at
        if new:
            self._counted_at = time.monotonic()
        return new

    # --- what follows ----------------------------------------------------------------------------------------------

    def _end(self, item: Requested, outcome: Answer | DataFailure) -> None:
        self._stuck.discard(item.number)
        self.ended.append((item.number, outcome))

    def _part(self, group: list[Requested]) -> None:
        half = len(group) // 2
        self._parts.extendleft((group[half:], group[:half]))

    def _again(self, group: list[Requested], words: str) -> None:
        for item in group:
            item.attempts += 1
            if item.attempts >= STUCK:
                self._stuck.add(item.number)
        self._in_trouble(words)
        at = time.monotonic() + pause_s(group[0].attempts, random.random())
        heapq.heappush(self._later, (at, next(self._sequence), group))

    def _in_trouble(self, words: str) -> None:
        """The server does not answer, by whatever request that shows."""
        self._trouble = words
        if self.pacing.is_failing:
            self._doubtful = True
            if not self._down:
                self._down = True
                log.warning("%s: %s; it is tried again until it answers", self._url, words)

    def _works(self, began: float) -> None:
        """The server answers."""
        self.pacing.answered(began, time.monotonic())
        if self._down:
            self._down = False
            log.warning("%s answers again", self._url)
        if self._trouble and not self._stuck:
            self._trouble = ""

    async def _works_for_known(self) -> bool:
        """Whether the server answers a known text."""
        try:
            reply = await self._client.post(self._probe.path, self._api.body([self._probe], self._name))
            if verdict(reply.status) is Verdict.ANSWER:
                self._api.read(reply.body, reply.headers, [self._probe])
                self.pacing.failures = 0
                return True
        except (NoReplyError, MalformedError, WithheldError):
            return False
        if verdict(reply.status) is Verdict.RECORD:
            words = f"{self._url} refuses a known text, too: {said(reply, [])}"
            self._fail(ExitCode.HALTED, words)
        return False

    async def _ask_what_is_served(self, doubtful: bool) -> None:
        """After an outage, and now and then: a server may come back with another model under the same name."""
        began = time.monotonic()
        try:
            other = await self._check()
        except NoReplyError as error:
            if error.setting:
                self._count_refusal(began, str(error))
            self.pacing.failed(began, time.monotonic(), random.random(), down=error.down)
            if doubtful:
                self._in_trouble(str(error))
            return
        self.pacing.dropped()
        if other:
            self._changed_model(other)
        elif doubtful:
            self._doubtful = False

    def _changed_model(self, how: str) -> None:
        again = "start again, and results name the model that is served now"
        self._fail(ExitCode.DEPENDENCY, f"the model at {self._url} has changed since the start: {how}; {again}")

    def _fail(self, code: ExitCode, words: str) -> None:
        self.failure = self.failure or WorkerFailureError(FailureClass.CODE, words, code)


def said(reply: Reply, asks: list[TextRequest]) -> str:
    """A refusal in words: the status, and what of the error may be repeated."""
    words = words_of(reply.body, [text for ask in asks for text in ask.texts])
    return f"it answers {reply.status}{f' ({words})' if words else ''}"
