"""What there is: versions, the GPU, and what of both the other steps hang on."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version

from streamer.bench.device.report import Report
from streamer.bench.device.steps import Settings

PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "msgspec", "click", "confluent-kafka")
_GPU_FIELDS = "name,driver_version,memory.total,memory.used,clocks.sm,clocks.max.sm,power.limit,mig.mode.current"


def look(settings: Settings, report: Report) -> None:
    """Write it down, the plainest first."""
    report.say("Python", f"{platform.python_version()} on {platform.platform()}")
    for name in PACKAGES:
        try:
            report.say(name, version(name))
        except PackageNotFoundError:
            report.say(name, "not installed")
    report.figure("cores", len(os.sched_getaffinity(0)))
    report.figure("memory", os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, "GB")
    for program in ("java", "redis-server", "nvidia-smi"):
        report.say(program, shutil.which(program) or "not on the path")
    if shutil.which("nvidia-smi"):
        command = ["nvidia-smi", f"--query-gpu={_GPU_FIELDS}", "--format=csv,noheader"]
        report.say("GPU", subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.strip())
    import torch

    report.say("torch sees", f"CUDA {torch.version.cuda}, {torch.cuda.device_count()} GPU(s)")
    report.say("attention of packed sequences", "there" if _has_varlen() else "not in this torch")
    if settings.device == "cpu":
        return
    device = torch.device(settings.device)
    free, whole = torch.cuda.mem_get_info(device)
    report.say("compute capability", torch.cuda.get_device_capability(device))
    report.figure("device memory", whole / 1e9, "GB")
    report.figure("free of it", free / 1e9, "GB")


def _has_varlen() -> bool:
    try:
        from torch.nn.attention import varlen

        return hasattr(varlen, "varlen_attn")
    except ImportError:
        return False
