"""Public fakes: the world around a pipeline in memory, for tests that need neither servers nor threads nor a model.

    clock = ManualClock()
    log = MemoryLog(clock)
    log.create_topic("in", 3)
    group = log.group("g", ["in"])
    source = MemorySource(log, group, ["in"], post, clock)
    sink = MemorySink(log, group, "g.slot-0", make_encoder, source, post, clock)
    workers = ScriptedWorkers(post, clock, card, script)

`clock.advance(seconds)` makes it all happen. `streamer.simulation` drives whole pipelines over them.
"""

from __future__ import annotations

from streamer.testing.cache import MemoryCache
from streamer.testing.clock import Latency, ManualClock, Task, exactly
from streamer.testing.group import Group, GroupMetadata
from streamer.testing.log import MemoryLog, MemoryProducer, MemoryRecord
from streamer.testing.log_error import LogError
from streamer.testing.sink import MemoryIdempotentSink, MemorySink
from streamer.testing.source import MemorySource
from streamer.testing.trouble import Stage, Trouble
from streamer.testing.workers import Hangs, Kills, Raises, Reaction, Script, ScriptedWorkers

__all__ = [
    "Group",
    "GroupMetadata",
    "Hangs",
    "Kills",
    "Latency",
    "LogError",
    "ManualClock",
    "MemoryCache",
    "MemoryIdempotentSink",
    "MemoryLog",
    "MemoryProducer",
    "MemoryRecord",
    "MemorySink",
    "MemorySource",
    "Raises",
    "Reaction",
    "Script",
    "ScriptedWorkers",
    "Stage",
    "Task",
    "Trouble",
    "exactly",
]
