"""The steps, in the order of what is missed most when time is short; and what one is told. Nothing here imports torch:
a step imports what it needs when it runs."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path

from streamer.bench.device.report import Report, SkippedStepError, State
from streamer.machine.kernel import end_with_parent

FAMILIES = (
    "embedding",
    "sentence modules",
    "RoBERTa",
    "ModernBERT",
    "text-classification",
    "token-classification",
    "question-answering",
    "zero-shot-classification",
    "rerank",
    "similarity",
    "fill-mask",
    "text2text-generation",
    "scoring",
    "text-generation",
    "text-generation with beams",
)


@dataclass(frozen=True, slots=True)
class Settings:
    """Where and on what to run. `small` takes tiny models and few texts: to see that all of it runs. `folder` is for
    files that nobody wants later, `bootstrap_servers` a Kafka; "" starts one."""

    device: str
    small: bool
    folder: Path
    bootstrap_servers: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to find out, in a process of its own. `beside`: others like it may run at the same time. `again`: it
    is an earlier step for another size, of which small models have one."""

    name: str
    run: Callable[[Settings, Report], None]
    limit_s: float
    beside: bool = False
    again: bool = False


def _call(module: str, function: str, *arguments: str) -> Callable[[Settings, Report], None]:
    """Imported in the step's own process."""
    return partial(_imported, module, function, arguments)


def _imported(module: str, function: str, arguments: tuple[str, ...], settings: Settings, report: Report) -> None:
    getattr(import_module(f"streamer.bench.device.{module}"), function)(settings, report, *arguments)


STEPS: tuple[Step, ...] = (
    Step("machine", _call("machine", "look"), 60),
    *(Step(f"answers: {one}", _call("answers", "compare", one), 90, beside=True) for one in FAMILIES),
    Step("passes: MiniLM", _call("passes", "compare", "minilm"), 75),
    Step("worker: MiniLM", _call("speed", "one_worker", "minilm"), 60),
    Step("memory: passes", _call("memory", "passes"), 60),
    Step("memory: a worker", _call("memory", "worker"), 60),
    Step("tests", _call("gpu_tests", "run"), 90),
    Step("generation: 0.5 B", _call("generators", "generate", "0.5 B"), 75),
    Step("passes: BERT base", _call("passes", "compare", "base"), 75, again=True),
    Step("worker: BERT base", _call("speed", "one_worker", "base"), 60, again=True),
    Step("generation: 7 B", _call("generators", "generate", "7 B"), 110, again=True),
    Step("Kafka", _call("through_kafka", "rates"), 90),
)


def touch(device: str) -> None:
    """Whether a process that starts like this one may use the device: else it raises."""
    os.setsid()
    end_with_parent()
    import torch

    torch.zeros(1, device=device).sum().item()


def enter(step: Step, settings: Settings, results: Path, began: float, log: Path) -> None:
    """A step's process, from here to its end. What it prints goes to the log; it leads a group that ends with it."""
    os.setsid()
    end_with_parent()
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.stdout = sys.stderr = os.fdopen(output, "w", buffering=1)
    print(f"--- {step.name}", flush=True)  # noqa: T201  # into the log
    logging.basicConfig(level=logging.INFO)
    logging.getLogger("streamer.inference.backends").setLevel(logging.DEBUG)
    # What one step finds out about a model is no other's.
    os.environ["XDG_CACHE_HOME"] = str(settings.folder / "kept" / step.name.replace(" ", "-"))
    report = Report(results, began, step.name)
    try:
        step.run(settings, report)
        report.end(State.WRONG if report.wrongs else State.DONE, "; ".join(report.wrongs))
    except SkippedStepError as skipped:
        report.end(State.SKIPPED, str(skipped))
    except BaseException as error:
        traceback.print_exc()
        missing = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
        if missing in ("", "streamer"):
            report.end(State.FAILED, f"{type(error).__name__}: {error}"[:500])
        else:
            report.end(State.SKIPPED, f"{missing} is not installed")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # nothing that a library does at an exit can hold it up
