"""What goes into the pipeline and what comes out: inputs are facts, commands are wishes.

Adapters post inputs to the driver's one inbox; the driver hands each to `Pipeline.handle(input, now)` and executes
the commands that it returns. Times (`now`, deadlines) are seconds of a monotonic clock.

All are structs, which are made in C: as dataclasses they took a tenth of a driver's start, and of a worker's.
"""

from __future__ import annotations

from typing import Any

import msgspec

from streamer.core.events.framed import SchemaName
from streamer.core.pipeline.pass_spans import CodeSpans, Forwarded
from streamer.core.pipeline.refusal import Refusal
from streamer.core.record import Answer, MicroBatch, Segment, TopicPartition
from streamer.errors import DataFailure, ExitCode, FailureClass

# --- facts from the source ---------------------------------------------------------------------------------------


class Assigned(msgspec.Struct, frozen=True):
    """We own these partitions from now on, each under the given assignment epoch."""

    epochs: dict[TopicPartition, int]


class Taken(msgspec.Struct, frozen=True):
    """Records were taken from the source."""

    batch: MicroBatch


class Revoking(msgspec.Struct, frozen=True):
    """These partitions go to another member as soon as the core answers `Release(epoch)`: the source waits."""

    epoch: int
    partitions: frozenset[TopicPartition]


class Lost(msgspec.Struct, frozen=True):
    """These partitions are already somebody else's: nothing of theirs may be settled."""

    partitions: frozenset[TopicPartition]


class EndReached(msgspec.Struct, frozen=True):
    """`--until-end`: every record below the end offsets found at start was taken, but for the partitions that stand:
    `unread` says which and why."""

    unread: list[str] = []


class SourceFailed(msgspec.Struct, frozen=True):
    """The source can't go on: fenced, offset out of range, no right to read."""

    exit_code: ExitCode
    message: str


# --- facts from cache, workers and sink ----------------------------------------------------------------------------


class CacheAnswered(msgspec.Struct, frozen=True):
    """The answer to `LookUp`: one entry a key, None for a miss. An outage is all misses."""

    lookup: int
    answers: list[Answer | None]


class SchemasLearned(msgspec.Struct, frozen=True):
    """Schemas that `LearnSchemas` asked for are known by now, or are known not to be there."""

    names: list[SchemaName]


class WorkerReady(msgspec.Struct, frozen=True):
    """A worker loaded its model, passed its probe and waits for work."""

    worker: int
    model: ModelCard


class EncodeStarted(msgspec.Struct, frozen=True):
    """A worker is about to encode these computations, beside its forward batch; they have a lease of their own. None:
    it encodes nothing now."""

    worker: int
    numbers: list[int]


class ForwardStarted(msgspec.Struct, frozen=True):
    """A worker is about to run these computations in one forward batch; its lease starts again."""

    worker: int
    numbers: list[int]


class WorkerHolds(msgspec.Struct, frozen=True):
    """What a worker computes waits for something outside of it, a server; `why` is empty once it no longer does."""

    worker: int
    why: str


class ForwardDone(msgspec.Struct, frozen=True):
    """A forward batch ended: `outcomes` runs in parallel to `numbers`. `forwarded` and `code_spans` are what
    there is to trace of it."""

    worker: int
    numbers: list[int]
    outcomes: list[Answer | DataFailure]
    real_tokens: int = 0
    computed_tokens: int = 0
    seconds: float = 0.0
    passes: int = 1
    forwarded: list[Forwarded] = []
    code_spans: list[CodeSpans] = []


class WorkerLost(msgspec.Struct, frozen=True):
    """A worker's process ended.

    `failure` is the worker's own word where it could give one: DEVICE (broken context, failed probe, no memory: a
    fresh process may do), CODE (the model can't be served: `exit_code` says whose fault that is); `suspects` are the
    computations that it has to do with, if any. None is a death without a word: `signal` is its number (0 for a plain
    exit), `hung` says that we killed it at a deadline; what it had announced is suspect. `message` never quotes a text.
    """

    worker: int
    signal: int = 0
    hung: bool = False
    failure: FailureClass | None = None
    exit_code: ExitCode = ExitCode.HALTED
    message: str = ""
    suspects: list[int] = []


class Settled(msgspec.Struct, frozen=True):
    """The transaction (or the acknowledged outcomes and commit) is durable; it wrote `size_bytes` in `seconds`.
    The next one is best begun `rest_s` later."""

    settle: int
    seconds: float = 0.0
    size_bytes: int = 0
    rest_s: float = 0.0


class Unsettled(msgspec.Struct, frozen=True):
    """Nothing of the plan may be assumed durable, except what lies below `committed`.

    `reason` is for metrics: `ownership`, `abort`, `rebuild`, `refused`, `delivery` or `commit`. `committed` holds the
    group's offset of each partition of the plan where the outcome of the commit was unclear.
    `restart` asks to read everything again from the committed offsets (at-least-once after a delivery error).
    `refusals` says what the brokers do not take for good. Of the plan's `size_bytes` they took about `delivered_bytes`
    in `seconds`. `error` is Kafka's name of what went wrong.
    """

    settle: int
    reason: str
    committed: dict[TopicPartition, int] = {}
    restart: bool = False
    seconds: float = 0.0
    refusals: tuple[Refusal, ...] = ()
    size_bytes: int = 0
    delivered_bytes: int = 0
    error: str = ""


class OutputLimit(msgspec.Struct, frozen=True):
    """How large a result the output topic takes: said at the start, when it has changed, and after `LookAtOutput`."""

    size_bytes: int


class SinkFailed(msgspec.Struct, frozen=True):
    """The sink can't go on: fenced by another owner of the slot, or no right to write."""

    exit_code: ExitCode
    message: str


class Tick(msgspec.Struct, frozen=True):
    """Time passed; sent at least every 100 ms."""


class Stop(msgspec.Struct, frozen=True):
    """Stop taking, settle what is finished by `deadline`, drop the rest, leave."""

    deadline: float


Input = (
    Assigned
    | Taken
    | Revoking
    | Lost
    | EndReached
    | SourceFailed
    | CacheAnswered
    | SchemasLearned
    | WorkerReady
    | EncodeStarted
    | ForwardStarted
    | WorkerHolds
    | ForwardDone
    | WorkerLost
    | Settled
    | Unsettled
    | OutputLimit
    | SinkFailed
    | Tick
    | Stop
)


class ModelCard(msgspec.Struct, frozen=True):
    """What a worker serves. `revision` is the digest of all that the model was read from: files, and code of its own.

    `implementation` names what computes with it, with the versions that an answer may hang on. `shared` is false where
    the revision may miss something that the model reads: then its answers stay in this process's memory.
    `temperature` is that of events which name none, where the model can sample; None where it never does.
    `checked` names what of the network was held to float32, "" where that was all.
    """

    name: str
    revision: str
    task: str
    dtype: str
    backend: str
    device: str = "cpu"
    tolerance: float = 0.0
    max_tokens: int = 0
    cacheable: bool = True
    load_s: float = 0.0
    temperature: float | None = None
    implementation: str = ""
    shared: bool = True
    checked: str = ""

    @property
    def device_kind(self) -> str:
        """Of `device`, without which one of several it is: cpu, cuda."""
        return self.device.partition(":")[0]


# --- wishes --------------------------------------------------------------------------------------------------------


class LookUp(msgspec.Struct, frozen=True):
    """Ask the shared cache for these keys; the answer is `CacheAnswered` with the same number."""

    lookup: int
    keys: list[bytes]


class Store(msgspec.Struct, frozen=True):
    """Write these answers to the shared cache; no answer is expected, a failure is nobody's concern."""

    entries: list[tuple[bytes, Answer]]


class LearnSchemas(msgspec.Struct, frozen=True):
    """Learn these schemas: records wait for them until `SchemasLearned`, which names each of them once."""

    names: list[SchemaName]


class Work(msgspec.Struct, frozen=True):
    """Computations for one worker, as columns. `pairs` and `params` are None when no computation has any.

    `alone` marks suspects: each runs by itself, after the worker's probe passed. An answer larger than `answer_bytes`
    (0: no limit) ends in the worker. `traces` are those of the micro-batches that wait for them, as far as sampled.
    """

    numbers: list[int]
    texts: list[str]
    pairs: list[str | None] | None = None
    params: list[dict[str, Any] | None] | None = None
    alone: bool = False
    answer_bytes: int = 0
    traces: list[bytes] = []


class Dispatch(msgspec.Struct, frozen=True):
    """Send work to a worker."""

    worker: int
    work: Work


class StartWorker(msgspec.Struct, frozen=True):
    """Spawn this worker; ends in `WorkerReady` or `WorkerLost`."""

    worker: int


class KillWorker(msgspec.Struct, frozen=True):
    """Kill -9 this worker, which passed a deadline; ends in `WorkerLost(hung=True)`. `why` completes "a worker …"."""

    worker: int
    why: str = "passed its lease"


class Run(msgspec.Struct, frozen=True):
    """A finished prefix: records `first` to `last - 1` of a segment, all with outcomes."""

    batch: MicroBatch
    segment: Segment
    first: int
    last: int


class Settle(msgspec.Struct, frozen=True):
    """Make these runs' outcomes and offsets durable together. `offsets` holds the next offset of each partition and
    `epochs` the assignment epoch under which its records were taken."""

    settle: int
    runs: list[Run]
    offsets: dict[TopicPartition, int]
    epochs: dict[TopicPartition, int]


class LookAtOutput(msgspec.Struct, frozen=True):
    """Ask the brokers how large a result the output topic takes now; the answer is `OutputLimit`."""


class Join(msgspec.Struct, frozen=True):
    """The workers are ready to serve this model: join the consumer group."""

    model: ModelCard


class Grant(msgspec.Struct, frozen=True):
    """The source may have taken this many records and bytes in all since the start. Totals cannot race with records
    under way; a grant that does not grow holds the source."""

    records: int
    size_bytes: int


class PauseReading(msgspec.Struct, frozen=True):
    """Read nothing more of exactly these partitions for now: what was read of them waits for schemas."""

    partitions: frozenset[TopicPartition]


class MicroBatchDone(msgspec.Struct, frozen=True):
    """All of a micro-batch's records are durable or dropped: its span ends."""

    batch: MicroBatch


class Release(msgspec.Struct, frozen=True):
    """Let the revoked partitions of this epoch go."""

    epoch: int


class Rewind(msgspec.Struct, frozen=True):
    """Read these partitions again from their committed offsets, under a new assignment epoch."""

    partitions: frozenset[TopicPartition]


class Finish(msgspec.Struct, frozen=True):
    """The pipeline is done: close everything and end the process with this exit code."""

    exit_code: ExitCode
    message: str = ""


Command = (
    LookUp
    | Store
    | LearnSchemas
    | Dispatch
    | StartWorker
    | KillWorker
    | Join
    | LookAtOutput
    | Settle
    | Grant
    | PauseReading
    | MicroBatchDone
    | Release
    | Rewind
    | Finish
)
