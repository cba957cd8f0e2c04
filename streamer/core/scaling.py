"""How many replicas a pipeline needs, of what waits, what arrives, and what one of them settles."""

from __future__ import annotations

import difflib
import math
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from streamer.core.onlooker import View, standing
from streamer.core.record import TopicPartition
from streamer.core.standing import Reason

RATE_S: Final = 60.0
"""What arrives is the mean of so long."""

KEDAS_OWN: Final = frozenset({"scalerAddress", "enableTLS", "unsafeSsl", "tlsCertFile"})
"""What a trigger's metadata hold for KEDA itself, which passes them on."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What the metadata of a ScaledObject ask for. `drain_s` is how long what waits may take. `max_records` is how many
    may wait for each replica (0: any number), `max_replicas` the most replicas (0: as many as the input has
    partitions). `cooldown_s` is for how long an open transaction on the input keeps a pipeline that has just worked."""

    pipeline: str
    drain_s: float = 60.0
    max_records: float = 0.0
    max_replicas: float = 0.0
    cooldown_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits for a pipeline. `records` is how many committed records a replica can take up, `arriving` how many
    more come a second; whole partitions are left out that stand still until a person acts, and `stuck` is how many
    records those hold. `opened` says whether a transaction on the input is open; its records can't be read yet."""

    partitions: int = 0
    records: float = 0.0
    arriving: float = 0.0
    stuck: int = 0
    opened: bool = False


def backlog_of(views: Iterable[View], arriving: float, share: float = 1.0) -> Backlog:
    """What is in all partitions of a pipeline's inputs. `arriving` counts offsets a second; `share` is the part of all
    offsets that are records, and not transaction markers or records of aborted transactions."""
    partitions, offsets, stuck, opened = 0, 0, 0, False
    for view in views:
        partitions += 1
        opened |= view.end < view.high
        count = view.records - (0 if view.beyond_end else view.high - view.end)  # without those of open transactions
        if not count:
            continue
        if is_stuck(view):
            stuck += count
        else:
            offsets += count
    records = max(offsets * share, 1.0) if offsets else 0.0
    return Backlog(partitions, records, max(arriving, 0.0) * share, stuck, opened)


class Arrivals:
    """How fast the ends of a pipeline's partitions move, over the last minute."""

    def __init__(self) -> None:
        self._ends: deque[tuple[float, dict[TopicPartition, int]]] = deque()

    def rate(self, views: Iterable[View], now_s: float) -> float:
        """Offsets a second that are added to partitions which do not stand still; 0 at the first look."""
        ends = {view.partition: view.high for view in views if not is_stuck(view)}
        self._ends.append((now_s, ends))
        while len(self._ends) > 2 and now_s - self._ends[1][0] >= RATE_S:
            self._ends.popleft()
        since_s, before = self._ends[0]
        added = sum(max(end - before[place], 0) for place, end in ends.items() if place in before)
        return added / (now_s - since_s) if now_s > since_s else 0.0


def is_stuck(view: View) -> bool:
    """Whether no replica gets on with this partition until a person acts: it is held, its next batch is damaged, or its
    offset is none of the log's."""
    found = standing(view, 0, group="", address="")
    return any(each.reason is not Reason.OPEN_TRANSACTION for each in found)


def replicas(backlog: Backlog, wish: Wish, capacity: float | None, quiet_s: float, members: int = 1) -> int:
    """How many replicas settle what waits within `drain_s`, while more arrives. Each has so many `members`, and
    `capacity` is how many records a second one of these settles, None while that is not known; `quiet_s` is for how
    long nothing has waited.

    0 if and only if nothing waits, and no open transaction keeps a pipeline that has just worked. Never more than have
    a partition.
    """
    if not backlog.records and not backlog.stuck:
        return int(backlog.opened and quiet_s < wish.cooldown_s)
    needed = 1.0
    if backlog.records and capacity:
        needed = max(needed, (backlog.arriving + backlog.records / wish.drain_s) / (capacity * members))
    if wish.max_records:
        needed = max(needed, backlog.records / wish.max_records)
    most = max(math.ceil(backlog.partitions / members), 1)
    if wish.max_replicas:
        most = min(most, int(wish.max_replicas))
    return math.ceil(min(needed, most))


def wish_of(metadata: Mapping[str, str], pipelines: Collection[str]) -> tuple[Wish | None, list[str]]:
    """What the metadata of a ScaledObject ask for, and all that is wrong with them: field, problem and fix."""
    wrong = []
    values: dict[str, float] = {}
    for field, text in metadata.items():
        if field in KEDAS_OWN or field == "pipeline":
            continue
        if field not in _LEAST:
            near = difflib.get_close_matches(field.lower(), ["pipeline", *_LEAST], n=1)
            meant = f"did you mean {near[0]}?" if near else f"there are pipeline, {', '.join(_LEAST)}"
            wrong.append(f"metadata.{field}: there is no such field; {meant}")
            continue
        least, unit, example = _LEAST[field]
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not least <= value < math.inf or (field == "max_replicas" and value != int(value)):
            wrong.append(f'metadata.{field}: "{text[:40]}" is no {unit} of {least:g} or more; write e.g. "{example}"')
        values[field] = value
    pipeline = metadata.get("pipeline", "")
    if pipeline not in pipelines:
        near = difflib.get_close_matches(pipeline, pipelines, n=1)
        meant = f"did you mean {near[0]}?" if near else f"there are: {', '.join(pipelines)}"
        what = f"the configuration has no pipeline {pipeline[:80]}" if pipeline else "it is missing: name the pipeline"
        wrong.append(f"metadata.pipeline: {what}; {meant}")
    return (None if wrong else Wish(pipeline, **values)), wrong


# By field: the least value, what it counts, and an example.
_LEAST: Final = {
    "drain_s": (1.0, "number of seconds", "60"),
    "max_records": (1.0, "number of records", "50000"),
    "max_replicas": (1.0, "whole number", "12"),
    "cooldown_s": (0.0, "number of seconds", "60"),
}
