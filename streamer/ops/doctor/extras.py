"""Rules on what is installed: the extras that pipelines need."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from streamer.config.load import PipelineConfig
from streamer.extras import LIBRARIES, absent, install_command
from streamer.inference.models.presence import extra_of, is_quantised
from streamer.ops.doctor.finding import Finding, error, warning


def judge(
    pipelines: Mapping[str, PipelineConfig], *, runs_here: bool, lacks: Callable[[str], tuple[str, ...]] = absent
) -> Iterator[Finding]:
    """What a run of these pipelines would lack. `runs_here` is whether they are to run in this installation; where they
    are only operated, it is a warning. `lacks` says which modules of an extra are missing."""
    make = error if runs_here else warning
    for name, pipeline in pipelines.items():
        for extra in _needed(pipeline):
            if missing := lacks(extra):
                what = f"needs the extra {extra}, which is not installed here ({', '.join(missing)})"
                yield make("extra.missing", f"pipeline {name}", what, install_command(extra))


def about() -> str:
    """Which extras are installed, and which are not."""
    here = [extra for extra in LIBRARIES if not absent(extra)]
    without = [extra for extra in LIBRARIES if absent(extra)]
    return (", ".join(here) or "none") + (f"; not installed: {', '.join(without)}" if without else "")


def _needed(pipeline: PipelineConfig) -> Iterator[str]:
    if extra := extra_of(pipeline.model):
        yield extra
        if pipeline.backend == "openvino":
            yield "cpu"
    if is_quantised(pipeline.model):
        yield "quantized"
    if pipeline.input_format != "json" or pipeline.output_format != "json":
        yield "registry"
