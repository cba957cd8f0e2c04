"""What goes into the pipeline and what comes out: inputs are facts, commands are wishes.

Adapters post inputs to the driver's one inbox; the driver hands each to `Pipeline.handle(input, now)` and executes
the commands that it returns. Times (`now`, deadlines) are seconds of a monotonic clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from streamer.core.record import Answer, MicroBatch, Segment, TopicPartition
from streamer.errors import DataFailure, ExitCode, FailureClass

# --- facts from the source ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Assigned:
    """We own these partitions from now on, each under the given assignment epoch."""

    epochs: dict[TopicPartition, int]


@dataclass(frozen=True, slots=True)
class Taken:
    """Records were taken from the source."""

    batch: MicroBatch


@dataclass(frozen=True, slots=True)
class Revoking:
    """These partitions go to another member as soon as the core answers `Release(epoch)`: the source waits."""

    epoch: int
    partitions: frozenset[TopicPartition]


@dataclass(frozen=True, slots=True)
class Lost:
    """These partitions are already somebody else's: nothing of theirs may be settled."""

    partitions: frozenset[TopicPartition]


@dataclass(frozen=True, slots=True)
class EndReached:
    """`--until-end`: every record below the end offsets found at start was taken."""


@dataclass(frozen=True, slots=True)
class SourceFailed:
    """The source can't go on: fenced, offset out of range, no right to read."""

    exit_code: ExitCode
    message: str


# --- facts from cache, workers and sink ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CacheAnswered:
    """The answer to `LookUp`: one entry a key, None for a miss. An outage is all misses."""

    lookup: int
    answers: list[Answer | None]


@dataclass(frozen=True, slots=True)
class WorkerReady:
    """A worker loaded its model, passed its probe and waits for work."""

    worker: int
    model: ModelCard


@dataclass(frozen=True, slots=True)
class ForwardStarted:
    """A worker is about to run these computations in one forward batch; its lease starts anew."""

    worker: int
    numbers: list[int]


@dataclass(frozen=True, slots=True)
class ForwardDone:
    """A forward batch ended: `outcomes` runs in parallel to `numbers`."""

    worker: int
    numbers: list[int]
    outcomes: list[Answer | DataFailure]
    real_tokens: int = 0
    computed_tokens: int = 0
    seconds: float = 0.0
    passes: int = 1


@dataclass(frozen=True, slots=True)
class WorkerLost:
    """A worker's process ended.

    `failure` is the worker's own word where it could give one: DEVICE (broken context, failed probe: start it again,
    no record is suspect), CODE (the model fails for everything: halt with `exit_code`). None is a death without a
    word: `signal` is its number (0 for a plain exit), `hung` says that we killed it at its deadline; what it had
    announced last is suspect. `message` never quotes a text.
    """

    worker: int
    signal: int = 0
    hung: bool = False
    failure: FailureClass | None = None
    exit_code: ExitCode = ExitCode.HALTED
    message: str = ""


@dataclass(frozen=True, slots=True)
class Settled:
    """The transaction (or the acknowledged outcomes and commit) is durable; it took `seconds`."""

    settle: int
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Unsettled:
    """Nothing of the plan may be assumed durable, except what lies below `committed`.

    `reason` is for metrics: `ownership`, `abort`, `rebuild` or `delivery`. `committed` holds the group's offset of
    each partition of the plan where the outcome of the commit was unclear.
    `restart` asks to read everything again from the committed offsets (at-least-once after a delivery error).
    """

    settle: int
    reason: str
    committed: dict[TopicPartition, int] = field(default_factory=dict)
    restart: bool = False
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class SinkFailed:
    """The sink can't go on: fenced by another owner of the slot, or no right to write."""

    exit_code: ExitCode
    message: str


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed; sent at least every 100 ms."""


@dataclass(frozen=True, slots=True)
class Stop:
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
    | WorkerReady
    | ForwardStarted
    | ForwardDone
    | WorkerLost
    | Settled
    | Unsettled
    | SinkFailed
    | Tick
    | Stop
)


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What a worker serves. `revision` is the digest of the model's files (or its class's own version).

    `temperature` is that of events which name none, where the model can sample; None where it never does.
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


# --- wishes --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LookUp:
    """Ask the shared cache for these keys; the answer is `CacheAnswered` with the same number."""

    lookup: int
    keys: list[bytes]


@dataclass(frozen=True, slots=True)
class Store:
    """Write these answers to the shared cache; no answer is expected, a failure is nobody's concern."""

    entries: list[tuple[bytes, Answer]]


@dataclass(frozen=True, slots=True)
class Work:
    """Computations for one worker, as columns. `pairs` and `params` are None when no computation has any.

    `alone` marks suspects: each runs by itself, after the worker's probe passed.
    """

    numbers: list[int]
    texts: list[str]
    pairs: list[str | None] | None = None
    params: list[dict[str, Any] | None] | None = None
    alone: bool = False


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Send work to a worker."""

    worker: int
    work: Work


@dataclass(frozen=True, slots=True)
class StartWorker:
    """Spawn this worker; ends in `WorkerReady` or `WorkerLost`."""

    worker: int


@dataclass(frozen=True, slots=True)
class KillWorker:
    """Kill -9 this worker, whose lease passed its deadline; ends in `WorkerLost(hung=True)`."""

    worker: int


@dataclass(frozen=True, slots=True)
class Run:
    """A finished prefix: records `first` to `last - 1` of a segment, all with outcomes."""

    batch: MicroBatch
    segment: Segment
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Settle:
    """Make these runs' outcomes and offsets durable together. `offsets` holds the next offset of each partition and
    `epochs` the assignment epoch under which its records were taken."""

    settle: int
    runs: list[Run]
    offsets: dict[TopicPartition, int]
    epochs: dict[TopicPartition, int]


@dataclass(frozen=True, slots=True)
class Join:
    """The workers are ready to serve this model: join the consumer group."""

    model: ModelCard


@dataclass(frozen=True, slots=True)
class Grant:
    """The source may have taken this many records and bytes in all since the start. Totals cannot race with records
    under way; a grant that does not grow holds the source."""

    records: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class MicroBatchDone:
    """All of a micro-batch's records are durable or dropped: its span ends."""

    batch: MicroBatch


@dataclass(frozen=True, slots=True)
class Release:
    """Let the revoked partitions of this epoch go."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Rewind:
    """Read these partitions again from their committed offsets, under a new assignment epoch."""

    partitions: frozenset[TopicPartition]


@dataclass(frozen=True, slots=True)
class Finish:
    """The pipeline is done: close everything and end the process with this exit code."""

    exit_code: ExitCode
    message: str = ""


Command = (
    LookUp
    | Store
    | Dispatch
    | StartWorker
    | KillWorker
    | Join
    | Settle
    | Grant
    | MicroBatchDone
    | Release
    | Rewind
    | Finish
)
