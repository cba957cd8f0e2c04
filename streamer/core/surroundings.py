"""What `streamer doctor` gathers before a start. Values only: adapters fill them in, rules judge them.

None and empty stand for what the other side did not let us see: rules say nothing about it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from streamer.core.onlooker import View
from streamer.core.record import TopicPartition


@dataclass(frozen=True, slots=True)
class BrokerInfo:
    """The cluster. `release` is the newest Kafka release that all its request versions prove, (0, 0) when older than
    any that streamer can use. `settings` are one broker's; `silent` are addresses that brokers announce and nobody
    answers at."""

    address: str
    brokers: int
    release: tuple[int, int] | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    silent: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TopicInfo:
    """A topic. `in_sync` is the fewest replicas in sync of any partition; `leaderless` counts partitions."""

    name: str
    partitions: int
    replication: int
    in_sync: int
    leaderless: int
    settings: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class MemberInfo:
    """A member of a group now. `slot` is its group.instance.id."""

    client: str
    host: str
    slot: str
    topics: frozenset[str]


@dataclass(frozen=True, slots=True)
class GroupInfo:
    """A pipeline's group: its members, and where it has come, in all topics (`settled`) and in the pipeline's inputs
    (`views`). `owned` are the partitions that a member has, None while they move. `written` is how many offsets the
    pipeline's output topic has ever had."""

    name: str
    assignor: str = ""
    members: tuple[MemberInfo, ...] = ()
    rights: frozenset[str] | None = None
    settled: Mapping[TopicPartition, int] = field(default_factory=dict)
    views: tuple[View, ...] = ()
    owned: frozenset[TopicPartition] | None = None
    written: int = 0
    newest_ms: Mapping[TopicPartition, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunningInfo:
    """A pipeline that runs on this cluster, of whatever configuration: its group, what it reads and where its results
    go."""

    group: str
    inputs: frozenset[str]
    output: str


@dataclass(frozen=True, slots=True)
class ClientTimes:
    """What the Kafka clients of a pipeline are told, in ms. `transaction` is None without transactions."""

    transaction: int | None
    session: int
    heartbeat: int
    poll: int


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """Who answers at an address. `refusal` says why it takes no connection; `speaks` is Kafka, Redis or HTTP, "" for
    anything else; `certificate` says why its certificate is not trusted; `mechanisms` are the logins that a listener of
    Kafka asks for."""

    address: str
    resolves: bool = True
    refusal: str = ""
    speaks: str = ""
    tls: bool = False
    certificate: str = ""
    mechanisms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CacheInfo:
    """Redis. `failure` says why it could not be asked at all, and then `peers` who answers instead, with whether we ask
    with `tls`, and `several` whether for sentinels or a cluster; `denied` names commands that its user may not use,
    `unwritable` is Redis' word (OOM, READONLY …) for why a test key could not be written. `key_problem` says what
    is wrong with the file of the cache's key, with the fix behind a semicolon; `key_ends_start`, that it would end a
    start; `key_exposed`, that other users may read the file."""

    address: str
    key_problem: str = ""
    key_ends_start: bool = False
    key_exposed: bool = False
    failure: str = ""
    peers: tuple[PeerInfo, ...] = ()
    tls: bool = False
    several: str = ""
    login: bool = False
    denied: tuple[str, ...] = ()
    unwritable: str = ""
    version: str = ""
    policy: str = ""
    max_bytes: int | None = None
    cluster: bool = False
    sentinel: bool = False


@dataclass(frozen=True, slots=True)
class MachineInfo:
    """This machine, as far as this process may use it. `gpus` is None when nobody can tell. `taken` are the HTTP
    addresses that can't be listened on, with whether streamer itself listens there."""

    cores: int
    memory_bytes: int
    gpus: int | None = None
    taken: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A pipeline's model: `failure` why it can't be served; what a worker with it takes, where one was started."""

    failure: str = ""
    name: str = ""
    revision: str = ""
    device: str = ""
    seconds: float = 0.0
    worker_bytes: int = 0
