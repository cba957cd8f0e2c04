"""The embedded stack for trying streamer and for its tests: a real Apache Kafka and a real Redis, without Docker."""

from __future__ import annotations

from streamer.local.errors import MissingPart, PortTaken, StartFailed
from streamer.local.kafka import Listener
from streamer.local.process import LocalProcess
from streamer.local.stack import Stack

__all__ = ["Listener", "LocalProcess", "MissingPart", "PortTaken", "Stack", "StartFailed"]
