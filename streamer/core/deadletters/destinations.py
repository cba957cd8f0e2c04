"""Where a dead letter may be sent, and to whom: what its headers say of that is a stranger's word.

Whoever may write to a dead-letter topic could name any topic there, and a replay writes with the operator's rights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from streamer.core.deadletters.families import Family, Reason


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a dead letter stays; one text for all that stay for the same reason."""

    why: str


class Address(NamedTuple):
    """A topic, and the one pipeline that is to read the record there; "" for whoever reads the topic."""

    topic: str
    pipeline: str


@dataclass(frozen=True, slots=True)
class Destinations:
    """`readers` are the pipelines of the configuration by the topic that they read. `to` is a topic that the operator
    named instead of each one's own, `addressee` a pipeline instead of the one that failed; "" for none."""

    readers: Mapping[str, frozenset[str]] = field(default_factory=dict)
    to: str = ""
    addressee: str = ""

    def __call__(self, reason: Reason) -> Address | Refusal:
        """Where a dead letter with this reason goes."""
        topic = self.to or reason.topic
        if topic is None:
            return Refusal("its headers do not name a topic: give --to TOPIC")
        readers = self.readers.get(topic)
        if readers is None and not self.to:
            return Refusal(
                "no pipeline of the configuration reads the topic that its headers name: if they are right, configure"
                " that pipeline, or give --to TOPIC"
            )
        if self.addressee:
            if readers is not None and self.addressee not in readers:
                return Refusal(f"pipeline {self.addressee} does not read {topic}")
            return Address(topic, self.addressee)
        # In another topic than its own every pipeline may read it.
        if topic != reason.topic or reason.family is not Family.STREAMER or not reason.pipeline:
            return Address(topic, "")
        if readers is not None and reason.pipeline not in readers:
            return Refusal(
                f"the pipeline that its headers name does not read {topic}, so nobody would answer: if it was"
                " renamed, give --for PIPELINE"
            )
        return Address(topic, reason.pipeline)
