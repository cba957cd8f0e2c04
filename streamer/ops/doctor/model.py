"""Rules on models."""

from __future__ import annotations

from collections.abc import Iterator

from streamer.config.load import PipelineConfig
from streamer.core.surroundings import MachineInfo, ModelInfo
from streamer.ops.doctor.finding import Finding, error

_MEND = "correct `model`, `task` and `options` of the pipeline; `streamer infer` tries them without Kafka"


def judge(name: str, pipeline: PipelineConfig, model: ModelInfo, machine: MachineInfo) -> Iterator[Finding]:
    """Whether the model can be served here."""
    where = f"pipeline {name}"
    if pipeline.device.startswith("cuda") and machine.gpus is not None:
        number = int(pipeline.device.partition(":")[2] or 0)
        if number >= machine.gpus:
            has = f"there are {machine.gpus}" if machine.gpus else "there is none"
            yield error(
                "device.absent",
                where,
                f"device is {pipeline.device}, but of NVIDIA GPUs {has} here",
                'set device = "auto", or give this machine or container the GPU (docker run --gpus all)',
            )
            return
    if model.failure:
        yield error("model.refused", where, model.failure, _MEND)
