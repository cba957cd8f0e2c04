"""What the doctor asks of the world."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from streamer.config.load import CacheConfig, Config, KafkaConfig, PipelineConfig
from streamer.core.surroundings import (
    BrokerInfo,
    CacheInfo,
    ClientTimes,
    GroupInfo,
    MachineInfo,
    ModelInfo,
    RunningInfo,
    TopicInfo,
)


class TopicProblem(Protocol):
    """Something about a topic that keeps a pipeline from starting, or is a `warning`, with the fix."""

    @property
    def code(self) -> str: ...
    @property
    def topic(self) -> str: ...
    @property
    def problem(self) -> str: ...
    @property
    def fix(self) -> str: ...
    @property
    def warning(self) -> bool: ...


class Cluster(Protocol):
    """A cluster that has answered. Every method may raise DependencyError or ConfigurationError."""

    def broker(self) -> BrokerInfo:
        """The brokers."""
        ...

    def problems(self, pipelines: Iterable[str]) -> Sequence[TopicProblem]:
        """What `streamer topics check` finds."""
        ...

    def topics(self, names: Iterable[str]) -> Mapping[str, TopicInfo]:
        """Those of these topics that exist."""
        ...

    def group(self, pipeline: PipelineConfig, topics: Iterable[str]) -> GroupInfo:
        """A pipeline's group, and where it has come in these topics."""
        ...

    def running(self) -> Sequence[RunningInfo]:
        """The pipelines that run on this cluster, as far as we may see."""
        ...


@dataclass(frozen=True, slots=True)
class World:
    """The questions, each answered by an adapter. `model` takes a pipeline's name and whether to load the model in a
    worker; `plan` gives a pipeline's workers and the threads of each; `connect` raises when the cluster does not
    answer or refuses us."""

    connect: Callable[[Config], Cluster]
    property_problem: Callable[[KafkaConfig], str]
    client_times: Callable[[KafkaConfig, PipelineConfig], ClientTimes]
    slot_is_held: Callable[[PipelineConfig], bool]
    cache: Callable[[CacheConfig], CacheInfo]
    machine: Callable[[Iterable[str]], MachineInfo]
    plan: Callable[[str], tuple[int, int]]
    model: Callable[[str, bool], ModelInfo]
