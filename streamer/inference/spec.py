"""What a worker is told: the model, its task, and how to run it."""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

DType = Literal["auto", "float32", "bfloat16", "float16"]
Backend = Literal["auto", "torch", "openvino", "openai", "tei"]
Overflow = Literal["truncate", "reject", "window"]

SERVED: Final = ("openai", "tei")
"""Backends that ask a server: OpenAI's API, and that of text-embeddings-inference."""

WORKER_NAME: Final = "streamer-worker"
"""What `ps -o comm` and /proc/PID/comm call a worker; the kernel keeps 15 bytes."""

# More threads than this on one forward batch pay little for the small matrices of encoders: start another worker.
_THREADS_A_WORKER = 4


class ServedSpec(msgspec.Struct, frozen=True):
    """How a worker asks the server of its model, as the fields `served_…` of the configuration say."""

    model: str = ""
    revision: str = ""
    key_env: str = ""
    ca: str = ""
    requests: int = 64
    batch: int = 32
    timeout_s: float = 120.0
    deadline_s: float = 0.0
    pinned: bool = True


class WorkerSpec(msgspec.Struct, frozen=True):
    """One pipeline's model as its workers run it; built by the driver from the configuration.

    `adapter` is a reference, too, or "". `backend` `auto` takes OpenVINO for encoders on a CPU where it is installed
    and agrees with torch; `compile` is torch's. `device` is `auto` (worker n takes GPU n modulo their number, else the
    CPU), `cpu` or `cuda:N`. `batch_tokens` bounds the tokens that a forward batch computes, 0 is the device's default.
    `options` are the task's own and are checked by its family. `max_text_bytes` refuses larger texts before tokenising,
    0 does not. `traced` lets spans of the model's own code come back, with the attributes `resource`.
    """

    pipeline: str
    task: str
    model: str
    adapter: str = ""
    dtype: DType = "auto"
    backend: Backend = "auto"
    compile: bool = False
    device: str = "auto"
    threads: int = 1
    on_overflow: Overflow = "truncate"
    options: dict[str, Any] = {}
    batch_tokens: int = 0
    max_text_bytes: int = 0
    traced: bool = False
    resource: dict[str, str] = {}
    served: ServedSpec = ServedSpec()


def plan_threads(workers: int, threads: int, cores: int, pipelines: int = 1, gpus: int = 0) -> tuple[int, int]:
    """Divide `cores` over `pipelines` of one run; returns (workers, threads of each) of one pipeline.

    0 asks to choose: a worker for each of the `gpus`, or for each share of the CPU. One core is left to the driver and
    the rest: worker threads that compete with a busy process lose most of their speed at every barrier. What the user
    asked for is taken as it is.
    """
    share = max(1, (cores - 1) // max(1, pipelines))
    if workers <= 0 and gpus:
        workers = gpus
    elif workers <= 0:
        workers = max(1, share // threads if threads > 0 else -(-share // _THREADS_A_WORKER))
    if threads <= 0:
        threads = max(1, share // workers)
    return workers, threads


def worker_environment(spec: WorkerSpec) -> dict[str, str]:
    """The variables a worker starts with, beside its parent's: they must be there before its libraries load.

    OpenMP threads sleep at barriers instead of spinning: two that spin beside a busy third process on two cores fell
    to a fortieth of their speed. The tokenizer runs in one thread of its own, beside the forward pass.
    """
    threads = str(spec.threads)
    return {
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "OMP_WAIT_POLICY": "PASSIVE",
        "GOMP_SPINCOUNT": "0",
        "KMP_BLOCKTIME": "0",
        "RAYON_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",  # what may be downloaded is there before a worker starts
        "TRANSFORMERS_OFFLINE": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "USE_HUB_KERNELS": "NO",  # some networks fetch theirs by themselves where the package `kernels` is installed
    }
