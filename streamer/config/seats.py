"""The processes of one `streamer run`: for each pipeline one, or its members, with their addresses and budgets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from msgspec import structs

from streamer.config.fields import Config
from streamer.config.pipeline import PipelineConfig


class Seat(NamedTuple):
    """One process of a pipeline: which of its members on this machine, from 1; 0 is the only one."""

    pipeline: str
    member: int = 0

    def __str__(self) -> str:
        return f"{self.pipeline}/{self.member}" if self.member else self.pipeline

    @property
    def words(self) -> str:
        """In a sentence."""
        return f"member {self.member} of pipeline {self.pipeline}" if self.member else f"pipeline {self.pipeline}"

    @property
    def fields(self) -> dict[str, str | int]:
        """In a line of the log."""
        return {"pipeline": self.pipeline, **({"member": self.member} if self.member else {})}


def seats_of(pipelines: Mapping[str, PipelineConfig], names: Iterable[str] | None = None) -> list[Seat]:
    """One each of the pipelines `names`, or of all; then their further members. A process keeps its place, and with it
    its port, where another pipeline gets more members. Where measurement decides, only the first is known."""
    chosen = list(pipelines if names is None else names)
    firsts = [Seat(name, int(pipelines[name].members != 1)) for name in chosen]
    return firsts + [Seat(name, member) for name in chosen for member in range(2, pipelines[name].members + 1)]


def address_at(http: str, place: int) -> str:
    """Where the process at this place serves its metrics, of `telemetry.http`: each has the port after the one
    before; port 0 takes any."""
    host, _, port = http.rpartition(":")
    return f"{host}:{int(port) + place if int(port) else 0}"


def share_of(config: Config, name: str, most: int = 1) -> Config:
    """The configuration of one of the pipeline's members: its part of what all of them may hold in memory. There may
    come to be `most` of them where measurement decides: the first then has no more than the last."""
    pipeline, cache = config.pipelines[name], config.cache
    members = pipeline.members or most
    if members < 2:
        return config
    mine = structs.replace(pipeline, budget_mb=max(1, pipeline.budget_mb // members))
    memory_mb = -(-cache.memory_mb // members)  # 0 turns it off, which nobody asked for
    return structs.replace(
        config, pipelines={**config.pipelines, name: mine}, cache=structs.replace(cache, memory_mb=memory_mb)
    )
