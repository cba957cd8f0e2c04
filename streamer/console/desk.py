"""Orders for dead letters: replay, edit or discard. A dry run first; then the same as a job in the background, which
can be cancelled."""

from __future__ import annotations

import functools
import hashlib
import logging
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Any, Final

from streamer.config.load import Config
from streamer.console.asked import Wanted, place_of
from streamer.console.bugs import named
from streamer.console.history import History
from streamer.console.job import OWN, JobState, now_ms
from streamer.console.looks import Looks
from streamer.core.deadletters.letter import DeadLetter, Place
from streamer.core.deadletters.replay import Decide, Mark, Replay
from streamer.core.record import TraceParent
from streamer.errors import StreamerError, UsageError
from streamer.kafka.replay import TopicLog, TransactionalCopier
from streamer.ops.dlq.claims import ensure_free
from streamer.ops.dlq.destinations import destinations
from streamer.ops.dlq.documents import survey_json
from streamer.ops.dlq.find import read_closed
from streamer.ops.dlq.models import current_models
from streamer.ops.dlq.move import Mover
from streamer.ops.dlq.orders import make_order, signer
from streamer.ops.dlq.survey import Order, Survey, Targets, survey
from streamer.telemetry.tool_tracer import NO_SPANS, ToolTracer

MAX_SURVEYS: Final = 16
MAX_JOBS: Final = 20

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Prepared:
    order: Order
    wanted: Wanted
    targets: Targets
    log: TopicLog
    found: Survey


class BusyError(StreamerError):
    """Another job is under way."""


class _StoppedError(StreamerError):
    """Somebody cancelled it, or the console ends: what was moved stays moved, and the job's name goes on with the
    rest."""


class Desk:
    """All calls block. One job at a time. `tracer` sends the spans of jobs."""

    def __init__(self, config: Config, looks: Looks, history: History, tracer: ToolTracer = NO_SPANS) -> None:
        self._tracer = tracer
        self._config, self._looks, self._history = config, looks, history
        self._lock = threading.Lock()
        self._prepared: OrderedDict[str, _Prepared] = OrderedDict()
        self._jobs: OrderedDict[str, JobState] = OrderedDict()
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    def prepare(self, wanted: Wanted) -> dict[str, Any]:
        """A dry run: what the order would do. It is kept by its digest, which names the order and each dead letter that
        would move: what is executed is what was looked at."""
        wanted.check()
        places = [place_of(text) for text in wanted.places]
        if None in places:
            raise UsageError("places: write TOPIC/PARTITION/OFFSET")
        log, there = self._looks.open()
        topics = [topic for topic in there if not places or topic in {each.topic for each in places if each}]
        if places and not topics:
            raise UsageError("none of these places is in a dead-letter topic of the configuration")
        order = make_order(
            wanted.action,
            topics,
            wanted.selection(),
            wanted.words(),
            wanted.job,
            wanted.most,
            wanted.rate,
            **_more(wanted),
        )
        targets = Targets(log)
        if wanted.to:
            targets(wanted.to)
        # A changed value may well pass the same model.
        models = current_models(log, self._config.telemetry.reports) if wanted.action == "replay" else {}
        found = survey(log, order, self._decide(order, wanted, targets), models=models)
        with self._lock:
            self._prepared[found.digest] = _Prepared(order, wanted, targets, log, found)
            self._prepared.move_to_end(found.digest)
            while len(self._prepared) > MAX_SURVEYS:
                self._prepared.popitem(last=False)
        return survey_json(order, found, dry=True)

    def execute(self, digest: str, by: str, trace: TraceParent | None = None) -> dict[str, Any]:
        """Begin the job whose dry run has this digest, for whom the token names. Its span is below that of the request,
        which `trace` names.

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
        with read_closed(prepared.log) as closed:
            ensure_free(prepared.log, closed, prepared.order.topics)
        sign = replace(prepared.order.signature, by=signer(by))
        prepared = replace(prepared, order=replace(prepared.order, signature=sign))
        with self._lock:
            self._ensure_idle()
            if self._prepared.pop(digest, None) is None:
                raise UsageError(f"the dry run with digest {digest} was executed by somebody else just now")
            self._jobs.pop(sign.job, None)
            found, order = prepared.found, prepared.order
            state = JobState(
                sign.job,
                order.action,
                digest,
                by,
                found.total,
                found.before,
                order.rate_per_s,
                found.stay,
                order.wanted,
            )
            self._jobs[sign.job] = state
            while len(self._jobs) > MAX_JOBS:
                self._jobs.popitem(last=False)
            self._thread = threading.Thread(target=self._run, args=(prepared, state, trace), name="console-replay")
            self._thread.start()
        return state.document()

    def cancel(self, job: str, by: str) -> dict[str, Any]:
        """Stop a job of this console's after its open transaction. Raises UsageError for any other."""
        with self._lock:
            state = self._jobs.get(job)
            if state is None or state.state != "running":
                raise UsageError(f"job {job} is not running in this console: stop it where it runs, e.g. with Ctrl-C")
            state.cancelled_by = state.cancelled_by or by
            return state.document()

    def jobs(self) -> list[dict[str, Any]]:
        """The jobs of this console, the newest first."""
        with self._lock:
            return [state.document() for state in reversed(self._jobs.values())]

    def history(self) -> list[dict[str, Any]]:
        """All jobs, whoever started them: those that run, then the newest first. Of its own this console knows more
        than the topics."""
        told = [start.document() for start in self._history.starts()]
        newest = {each["job"]: each for each in reversed(told)}
        alone = []
        for each in self.jobs():
            known = newest.get(each["job"])
            if known is None or known["began"] < each["began"]:  # this start has written nothing yet
                alone.append(each)
            elif each["state"] in ("running", known["state"]):
                known |= {name: each[name] for name in OWN}
        return sorted(alone + told, key=lambda each: each["state"] != "running")

    def close(self) -> None:
        """Stop the job after its open transaction."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._history.close()

    def _decide(self, order: Order, wanted: Wanted, targets: Targets) -> Decide:
        sign = order.signature
        if wanted.action == "discard":
            decide: Decide = Mark(sign, "discarded", wanted.reason)
        else:
            sources = self._looks.topics
            to = destinations(
                self._config, sources, wanted.to, wanted.addressee, to_dead_letters=wanted.to_dead_letters
            )
            value = None if wanted.value is None else wanted.value.encode()
            change = None if wanted.action == "replay" else lambda _: value
            decide = Replay(sign, targets.find, to, wanted.max_attempts, change)
        places = {place_of(text) for text in wanted.places}
        return _only(places, decide) if places else decide

    def _run(self, prepared: _Prepared, state: JobState, trace: TraceParent | None) -> None:
        def check() -> None:
            if state.cancelled_by:
                raise _StoppedError(f"cancelled by {state.cancelled_by}")
            if self._stop.is_set():
                raise _StoppedError("the console ended")

        def progress(moved: int) -> None:
            state.moved = moved
            check()

        def sleep(seconds: float) -> None:
            deadline = time.monotonic() + seconds
            while (left := deadline - time.monotonic()) > 0:
                check()
                self._stop.wait(min(left, 0.1))

        order, found = prepared.order, prepared.found
        decide = self._decide(order, prepared.wanted, prepared.targets)
        mover = Mover(
            prepared.log,
            order,
            decide,
            prepared.targets,
            functools.partial(TransactionalCopier, self._config.kafka),
            progress=progress,
            sleep=sleep,
            tracer=self._tracer,
            parent=trace,
        )
        try:
            # It is looked at once more, up to the same ends: others may have moved some of these meanwhile.
            now = survey(prepared.log, order, decide, ends=found.ends)
            if now.digest != state.digest:
                raise UsageError(
                    f"what would move has changed since the dry run ({now.total:,} instead of {state.total:,}), so"
                    " nothing was moved: make another dry run"
                )
            mover.execute(now)
            state.state = "done"
        except _StoppedError as error:
            state.state, state.error = "stopped", str(error)
        except StreamerError as error:
            state.state, state.error = "failed", str(error)
        except Exception as error:
            _log.error("job %s failed: %s", state.job, named(error))
            state.state, state.error = "failed", f"a bug in streamer: {named(error)}; what was moved stays moved"
        state.ended_ms = now_ms()
        self._history.forget()

    def _ensure_idle(self) -> None:
        if self._thread is not None and self._thread.is_alive():
            raise BusyError("another job is running in this console: wait until it ends, or cancel it")


def _more(wanted: Wanted) -> dict[str, Any]:
    """What else is asked for, in the words of the command line."""
    if wanted.action == "discard":
        return {"reason": wanted.reason}
    value = None if wanted.value is None else hashlib.sha256(wanted.value.encode()).hexdigest()
    return {"to": wanted.to, "for": wanted.addressee, "max_attempts": wanted.max_attempts, "value_sha256": value}


def _only(places: set[Place | None], decide: Decide) -> Decide:
    def chosen(letter: DeadLetter) -> Any:
        return decide(letter) if letter.place in places else None

    return chosen
