"""The pytest plugin: the fixture `run_pipeline`. Nothing of streamer is imported until a test uses it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from streamer.testing.pipeline import LoadedPipeline, Outcomes


class PipelineRunner:
    """`streamer.testing.run_pipeline`, which loads each model once."""

    def __init__(self) -> None:
        self._loaded: list[tuple[object, tuple[str | int, dict[str, Any]], LoadedPipeline]] = []

    def __call__(
        self,
        config_or_model: object,
        events: Iterable[Any],
        *,
        task: str | None = None,
        options: Mapping[str, Any] | None = None,
        pipeline: str | None = None,
        **fields: Any,
    ) -> Outcomes:
        """See `streamer.testing.run_pipeline`."""
        from streamer.testing.pipeline import LoadedPipeline

        fields |= {"task": task, "options": options, "pipeline": pipeline}
        # An instance is itself alone, whatever it says that it equals; it is kept here.
        model = config_or_model if isinstance(config_or_model, str) else id(config_or_model)
        asked = (model, fields)
        for _, known, loaded in self._loaded:
            if known == asked:
                return loaded.run(events)
        loaded = LoadedPipeline(config_or_model, **fields)
        # Of what is asked a copy: a test may change its options for the next run.
        self._loaded.append((config_or_model, deepcopy(asked), loaded))
        return loaded.run(events)


@pytest.fixture(scope="module")
def run_pipeline() -> PipelineRunner:
    """`run_pipeline(config_or_model, events)` puts events through the real pipeline with the real model, without a
    broker: see `streamer.testing.run_pipeline`. The tests of a module share each model, which is loaded once."""
    return PipelineRunner()
