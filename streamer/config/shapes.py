"""What a pipeline's configuration says of the shape of its events, as the core reads them."""

from __future__ import annotations

from streamer.config.fields import Config
from streamer.config.pipeline import PipelineConfig
from streamer.core.events.shape import Path, Shape


def shape_of(pipeline: PipelineConfig) -> Shape | None:
    """The shape of this pipeline's events; None for our own event format."""
    if not pipeline.text_field:
        return None
    return Shape(
        Path.of(pipeline.text_field),
        Path.of(pipeline.text_pair_field) if pipeline.text_pair_field else None,
        Path.of(pipeline.id_field) if pipeline.id_field else None,
        tuple(map(Path.of, pipeline.keep)),
        pipeline.envelope,
    )


def shapes_of(config: Config) -> dict[str, Shape]:
    """The shapes by pipeline, of those that have one."""
    return {name: shape for name, pipeline in config.pipelines.items() if (shape := shape_of(pipeline)) is not None}
