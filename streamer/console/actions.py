"""What the page does with dead letters: look for them, and replay them as jobs that go on in the background."""

from __future__ import annotations

import functools
import itertools
import logging
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final, Literal

import msgspec

from streamer.config.load import Config
from streamer.config.shapes import shapes_of
from streamer.console.bugs import named
from streamer.console.letters import cause_document, letter_document, whole_document
from streamer.core.deadletters.causes import Causes
from streamer.core.deadletters.letter import Place, trace_id
from streamer.core.deadletters.replay import MAX_ATTEMPTS, Replay, event_id
from streamer.core.deadletters.selection import Selection
from streamer.core.deadletters.state import JOB_NAME
from streamer.errors import StreamerError, UsageError
from streamer.kafka.lag import GroupOffsets
from streamer.kafka.replay import TopicLog, TransactionalCopier
from streamer.ops.dlq.claims import ensure_free
from streamer.ops.dlq.destinations import destinations
from streamer.ops.dlq.documents import survey_json
from streamer.ops.dlq.find import find, letter_at, read_closed
from streamer.ops.dlq.models import current_models
from streamer.ops.dlq.move import Mover
from streamer.ops.dlq.orders import make_order, signer
from streamer.ops.dlq.outcome import outcome
from streamer.ops.dlq.survey import Order, Survey, Targets, survey

MAX_SURVEYS: Final = 16
MAX_JOBS: Final = 20
MAX_LETTERS: Final = 20

_log = logging.getLogger(__name__)


class Wanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"addressee": "for"}):
    """A replay as the page asks for it; the words are those of `streamer dlq replay`."""

    causes: list[str] = []
    codes: list[str] = []
    pipelines: list[str] = []
    to: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]{0,249}$")] = ""
    to_dead_letters: bool = False
    addressee: str = ""
    rate: Annotated[float, msgspec.Meta(gt=0)] | None = None
    most: Annotated[int, msgspec.Meta(ge=1)] | None = None
    max_attempts: Annotated[int, msgspec.Meta(ge=1)] = MAX_ATTEMPTS
    job: Annotated[str, msgspec.Meta(pattern=f"^{JOB_NAME}$")] | None = None


@dataclass(slots=True)
class JobState:
    """A job of this console's, under way or ended. `moved` counts what this start of it moved."""

    job: str
    digest: str
    by: str
    total: int
    moved: int = 0
    state: Literal["running", "done", "failed", "interrupted"] = "running"
    error: str = ""
    began_ms: int = 0
    ended_ms: int | None = None


@dataclass(frozen=True, slots=True)
class _Prepared:
    order: Order
    decide: Replay
    targets: Targets
    log: TopicLog
    found: Survey


class BusyError(StreamerError):
    """Another job is under way."""


class _StoppedError(Exception):
    """The console ends; what the job moved by now stays moved, and its name goes on with the rest."""


class Desk:
    """All calls block; those that look may run beside one another, and one replay at a time."""

    def __init__(self, config: Config, *, show_text: bool) -> None:
        self._config = config
        self._show_text = show_text
        self._topics = list(dict.fromkeys(pipeline.dead_letter for pipeline in config.pipelines.values()))
        self._lock = threading.Lock()
        self._prepared: OrderedDict[str, _Prepared] = OrderedDict()
        self._jobs: OrderedDict[str, JobState] = OrderedDict()
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    def causes(self, *, with_closed: bool) -> dict[str, Any]:
        """Why there are dead letters, in all dead-letter topics of the configuration."""
        began = time.monotonic()
        log, there = self._open()
        grouped = Causes()
        for letter in find(log, there, Selection(), None if with_closed else read_closed(log)):
            grouped.add(letter)
        found = grouped.by_count()
        times = [time_ms for cause in found for time_ms in (cause.first_ms, cause.last_ms) if time_ms >= 0]
        first_ms, last_ms = min(times, default=0), max(times, default=0)
        return {
            "topics": there,
            "missing": [topic for topic in self._topics if topic not in there],
            "total": sum(cause.count for cause in found),
            "first_ms": first_ms or None,
            "last_ms": last_ms or None,
            "causes": [cause_document(cause, first_ms, last_ms, show_text=self._show_text) for cause in found],
            "looked_ms": _now_ms(),
            "took_s": time.monotonic() - began,
        }

    def examples(self, cause: str, *, with_closed: bool) -> list[dict[str, Any]]:
        """The first dead letters of a cause."""
        log, there = self._open()
        closed = read_closed(log)
        letters = find(log, there, Selection(causes=(cause,)), None if with_closed else closed)
        return [
            letter_document(letter, closed.find(letter), show_text=self._show_text)
            for letter in itertools.islice(letters, MAX_LETTERS)
        ]

    def find(self, text: str) -> list[dict[str, Any]]:
        """The first dead letters with this key, event id or trace id, open or closed."""
        log, there = self._open()
        closed = read_closed(log)
        wanted = text.encode()
        letters = (
            letter
            for letter in find(log, there, Selection(), None)
            if letter.record.key() == wanted or text in (event_id(letter), trace_id(letter))
        )
        return [
            letter_document(letter, closed.find(letter), show_text=self._show_text)
            for letter in itertools.islice(letters, MAX_LETTERS)
        ]

    def outcome(self, job: str) -> dict[str, Any]:
        """What became of the records that a job sent. Raises UsageError where there is no such job."""
        kafka = self._config.kafka
        return outcome(TopicLog(kafka), self._config, GroupOffsets(kafka), job).document()

    def show(self, place: Place) -> dict[str, Any]:
        """One dead letter. Raises UsageError where there is none, or the topic is none of the configuration's."""
        if place.topic not in self._topics:
            raise UsageError(f"{place.topic} is no dead-letter topic of the configuration")
        log = TopicLog(self._config.kafka, shapes_of(self._config))
        letter = letter_at(log, place)
        if letter is None:
            raise UsageError(f"no record at {place}: it was deleted, or was never there")
        return whole_document(letter, read_closed(log).find(letter), show_text=self._show_text)

    def prepare(self, wanted: Wanted) -> dict[str, Any]:
        """A dry run: what the replay would do. It is kept by its digest, which names the order and each dead letter
        that would move: what is executed is what was looked at."""
        places = destinations(
            self._config, self._topics, wanted.to, wanted.addressee, to_dead_letters=wanted.to_dead_letters
        )
        asked = {name: getattr(wanted, name) for name in ("causes", "codes", "pipelines") if getattr(wanted, name)}
        selection = Selection(causes=wanted.causes, codes=wanted.codes, pipelines=wanted.pipelines)
        log, there = self._open()
        order = make_order(
            "replay",
            there,
            selection,
            asked,
            wanted.job,
            wanted.most,
            wanted.rate,
            to=wanted.to,
            **{"for": wanted.addressee},
            max_attempts=wanted.max_attempts,
        )
        targets = Targets(log)
        decide = Replay(order.signature, targets.find, places, wanted.max_attempts)
        if wanted.to:
            targets(wanted.to)
        found = survey(log, order, decide, models=current_models(log, self._config.telemetry.reports))
        with self._lock:
            self._prepared[found.digest] = _Prepared(order, decide, targets, log, found)
            self._prepared.move_to_end(found.digest)
            while len(self._prepared) > MAX_SURVEYS:
                self._prepared.popitem(last=False)
        return survey_json(order, found, dry=True)

    def execute(self, digest: str, by: str) -> dict[str, Any]:
        """Begin the replay whose dry run has this digest, for whom the token names.

        Raises BusyError beside another job of this console's, RunningError beside one elsewhere, UsageError for an
        unknown one.
        """
        with self._lock:
            self._ensure_idle()
            prepared = self._prepared.get(digest)
        if prepared is None:
            raise UsageError(f"no dry run with digest {digest} is kept here: make one first")
        if not prepared.found.total:
            raise UsageError("nothing would move")
        closed = read_closed(prepared.log)
        ensure_free(prepared.log, closed, prepared.order.topics)
        sign = replace(prepared.order.signature, by=signer(by))
        order, decide = replace(prepared.order, signature=sign), replace(prepared.decide, signature=sign)
        with self._lock:
            self._ensure_idle()
            if self._prepared.pop(digest, None) is None:
                raise UsageError(f"the dry run with digest {digest} was executed by somebody else just now")
            self._jobs.pop(sign.job, None)
            state = JobState(sign.job, digest, by, prepared.found.total, began_ms=_now_ms())
            self._jobs[sign.job] = state
            while len(self._jobs) > MAX_JOBS:
                self._jobs.popitem(last=False)
            prepared = replace(prepared, order=order, decide=decide)
            self._thread = threading.Thread(target=self._run, args=(prepared, state), name="console-replay")
            self._thread.start()
        return _job_json(state)

    def jobs(self) -> list[dict[str, Any]]:
        """The jobs of this console, the newest first."""
        with self._lock:
            return [_job_json(state) for state in reversed(self._jobs.values())]

    def close(self) -> None:
        """Stop the replay after its open transaction."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self, prepared: _Prepared, state: JobState) -> None:
        def progress(moved: int) -> None:
            state.moved = moved
            if self._stop.is_set():
                raise _StoppedError

        def sleep(seconds: float) -> None:
            if self._stop.wait(seconds):
                raise _StoppedError

        mover = Mover(
            prepared.log,
            prepared.order,
            prepared.decide,
            prepared.targets,
            functools.partial(TransactionalCopier, self._config.kafka),
            progress=progress,
            sleep=sleep,
        )
        try:
            # It is looked at once more, up to the same ends: others may have replayed some of these meanwhile.
            found = survey(prepared.log, prepared.order, prepared.decide, ends=prepared.found.ends)
            if found.digest != state.digest:
                raise UsageError(
                    f"what would move has changed since the dry run ({found.total:,} instead of {state.total:,}), so"
                    " nothing was moved: make another dry run"
                )
            mover.execute(found)
            state.state = "done"
        except _StoppedError:
            state.state = "interrupted"
        except StreamerError as error:
            state.state, state.error = "failed", str(error)
        except Exception as error:
            _log.error("replay %s failed: %s", state.job, named(error))
            state.state, state.error = "failed", f"a bug of ours: {named(error)}; what was moved stays moved"
        state.ended_ms = _now_ms()

    def _ensure_idle(self) -> None:
        if self._thread is not None and self._thread.is_alive():
            raise BusyError("another replay is under way in this console: wait for its end")

    def _open(self) -> tuple[TopicLog, list[str]]:
        """The log, and those of the dead-letter topics that are there."""
        log = TopicLog(self._config.kafka, shapes_of(self._config))
        described = log.describe(self._topics)
        return log, [topic for topic in self._topics if described[topic] is not None]


def _job_json(state: JobState) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.to_builtins(state)
    return document


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
