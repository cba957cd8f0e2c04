"""How many workers a job over files has: there is no Kafka to leave a core for, and no latency to keep."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

import msgspec

from streamer.config.load import PipelineConfig
from streamer.errors import ModelError
from streamer.inference.models.reference import Located, resolve
from streamer.machine.processors import usable_cores, usable_gpus, usable_memory_bytes

SMALL_WEIGHTS_BYTES: Final = 512 << 20
WORKERS: Final = 8  # of small weights; more of them gain less than they take in memory
THREADS: Final = 4
INPUT_BYTES: Final = 256 << 10  # of the input; for less, loading a further worker takes longer than it saves
WORKER_BYTES: Final = 1 << 30  # beside its weights
COPIES: Final = 3  # of the weights, while they are loaded and laid out again


def on_all_cores(pipeline: PipelineConfig, input_bytes: int, cores: Callable[[], int] = usable_cores) -> PipelineConfig:
    """The pipeline with workers on all cores, where neither workers nor threads were chosen, and the model is files
    that a CPU runs. `input_bytes` is what is to be read, 0 for a pipe, whose rows may come one by one."""
    if not input_bytes or pipeline.workers or pipeline.threads or usable_gpus(pipeline.device, os.environ):
        return pipeline
    size_bytes = _weights_bytes(pipeline.model)
    if not size_bytes:
        return pipeline
    workers, threads = share_out(cores(), size_bytes, usable_memory_bytes(), input_bytes // INPUT_BYTES)
    return msgspec.structs.replace(pipeline, workers=workers, threads=threads)


def share_out(cores: int, weights_bytes: int, memory_bytes: int, most: int) -> tuple[int, int]:
    """(workers, threads of each): `most` workers, or one. Several of a thread each wait for nobody, and are faster than
    one of several threads; but each has the weights to itself, and large ones are read from memory in each pass."""
    small = weights_bytes <= SMALL_WEIGHTS_BYTES
    threads = min(cores, THREADS if not small else max(1, min(THREADS, -(-cores // WORKERS))))
    room = memory_bytes // 2 // (WORKER_BYTES + COPIES * weights_bytes)
    workers = max(1, min(cores // threads, room, most))
    return workers, max(threads, min(THREADS, cores // workers))


def _weights_bytes(reference: str) -> int:
    """0 where it is not known."""
    try:
        found = resolve(reference)
    except ModelError:  # said by the worker
        return 0
    if not isinstance(found, Located):
        return 0
    return sum(file.stat().st_size for file in found.path.rglob("*.safetensors"))
