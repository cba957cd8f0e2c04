"""Testing without servers: one's own model in the real pipeline, and the world around a pipeline in memory.

    outcomes = run_pipeline("python:my_models:Sentiment", ["What a fine day", "…"])
    assert outcomes.results[0].output["label"] == "positive"

The fakes need neither threads nor a model:

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

from typing import TYPE_CHECKING

from streamer.lazy import exports

if TYPE_CHECKING:
    from streamer.app.events import RawEvent
    from streamer.app.outcomes import DeadLetter, Published, Result, Skipped
    from streamer.core.record import MemoryRecord
    from streamer.testing.cache import MemoryCache
    from streamer.testing.clock import Latency, ManualClock, Task, exactly
    from streamer.testing.group import Group, GroupMetadata
    from streamer.testing.idempotent_sink import MemoryIdempotentSink
    from streamer.testing.log import MemoryLog, MemoryProducer
    from streamer.testing.log_error import LogError
    from streamer.testing.pipeline import LoadedPipeline, Outcomes, run_pipeline
    from streamer.testing.source import MemorySource
    from streamer.testing.transactional_sink import MemorySink
    from streamer.testing.trouble import Stage, Trouble
    from streamer.testing.workers import Hangs, Kills, Raises, Reaction, Script, ScriptedWorkers
else:
    # Imported when asked for: the pytest plugin is loaded by the tests of every project, also those without a pipeline.
    _HOMES = {
        "streamer.app.events": ("RawEvent",),
        "streamer.app.outcomes": ("DeadLetter", "Published", "Result", "Skipped"),
        "streamer.core.record": ("MemoryRecord",),
        "streamer.testing.cache": ("MemoryCache",),
        "streamer.testing.clock": ("Latency", "ManualClock", "Task", "exactly"),
        "streamer.testing.group": ("Group", "GroupMetadata"),
        "streamer.testing.idempotent_sink": ("MemoryIdempotentSink",),
        "streamer.testing.log": ("MemoryLog", "MemoryProducer"),
        "streamer.testing.log_error": ("LogError",),
        "streamer.testing.pipeline": ("LoadedPipeline", "Outcomes", "run_pipeline"),
        "streamer.testing.source": ("MemorySource",),
        "streamer.testing.transactional_sink": ("MemorySink",),
        "streamer.testing.trouble": ("Stage", "Trouble"),
        "streamer.testing.workers": ("Hangs", "Kills", "Raises", "Reaction", "Script", "ScriptedWorkers"),
    }
    __getattr__ = exports(__name__, {name: home for home, names in _HOMES.items() for name in names})

__all__ = [
    "DeadLetter",
    "Group",
    "GroupMetadata",
    "Hangs",
    "Kills",
    "Latency",
    "LoadedPipeline",
    "LogError",
    "ManualClock",
    "MemoryCache",
    "MemoryIdempotentSink",
    "MemoryLog",
    "MemoryProducer",
    "MemoryRecord",
    "MemorySink",
    "MemorySource",
    "Outcomes",
    "Published",
    "Raises",
    "RawEvent",
    "Reaction",
    "Result",
    "Script",
    "ScriptedWorkers",
    "Skipped",
    "Stage",
    "Task",
    "Trouble",
    "exactly",
    "run_pipeline",
]
