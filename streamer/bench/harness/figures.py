"""What a benchmark says: rows with targets and verdicts, for people as tables and for scripts as JSON."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
PACKAGES = ("confluent-kafka", "msgspec", "torch", "transformers", "tokenizers", "sentence-transformers")


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure has to be: at least or at most."""

    at_least: float | None = None
    at_most: float | None = None

    def __str__(self) -> str:
        return f"≥ {self.at_least:g}" if self.at_least is not None else f"≤ {self.at_most:g}"

    def met(self, value: float) -> bool:
        """Whether the value reaches it."""
        if self.at_least is not None:
            return value >= self.at_least
        return self.at_most is None or value <= self.at_most


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value. `columns` hold what stands beside it, by name; `values` are its rounds."""

    name: str
    value: float
    unit: str
    target: Target | None = None
    values: Sequence[float] = ()
    columns: Mapping[str, Any] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None without one."""
        return None if self.target is None else self.target.met(self.value)


@dataclass(frozen=True, slots=True)
class Section:
    """A table of figures about one question. `notes` say how it was measured."""

    title: str
    figures: Sequence[Figure]
    notes: Sequence[str] = ()


def interleaved(
    rounds: int, programs: Mapping[str, Callable[[], T]], progress: Callable[[str], None]
) -> dict[str, list[T]]:
    """Run each program once a round, A B B A …, so that what else the machine does, and what one leaves to the next,
    falls on all alike."""
    results: dict[str, list[T]] = {name: [] for name in programs}
    for number in range(rounds):
        for name in list(programs)[:: -1 if number % 2 else 1]:
            progress(f"{name}, round {number + 1} of {rounds}")
            results[name].append(programs[name]())
    return results


def median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, list[float]]:
    """The median of the rounds' ratios, and the ratios."""
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    return statistics.median(ratios), ratios


def compared(
    name: str,
    ours: Sequence[float],
    theirs: Sequence[float],
    columns: tuple[str, str],
    target: Target | None = None,
    unit: str = "×",
) -> Figure:
    """The median ratio of rates in interleaved rounds, beside the median of each under the names of `columns`."""
    ratio, ratios = median_ratio(ours, theirs)
    both = dict(zip(columns, map(statistics.median, (ours, theirs)), strict=True))
    return Figure(name, ratio, unit, target, ratios, both)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -int(-share * len(ordered) // 1) - 1))]


def host_facts() -> dict[str, Any]:
    """Where this was measured, with what, and how busy the machine is now."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "matrix_units": sorted(_flags() & {"avx512_bf16", "amx_bf16", "avx512_vnni", "avx2"}),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "commit": _commit(),
        "command": " ".join(["streamer", *sys.argv[1:]]),
    }


def fast_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 matrices in hardware."""
    return bool(_flags() & {"avx512_bf16", "amx_bf16"})


def document(sections: Sequence[Section]) -> dict[str, Any]:
    """Everything, for scripts."""
    return {
        "host": host_facts(),
        "sections": [
            {
                "title": section.title,
                "notes": list(section.notes),
                "figures": [
                    {
                        "name": figure.name,
                        "value": figure.value,
                        "unit": figure.unit,
                        "target": str(figure.target) if figure.target else None,
                        "met": figure.met,
                        "rounds": list(figure.values),
                        **figure.columns,
                    }
                    for figure in section.figures
                ],
            }
            for section in sections
        ],
    }


def _cpu_info() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text() if path.exists() else ""


def _cpu_model() -> str:
    names = [line.partition(":")[2].strip() for line in _cpu_info().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _flags() -> set[str]:
    lines = [line.partition(":")[2] for line in _cpu_info().splitlines() if line.startswith("flags")]
    return set(lines[0].split()) if lines else set()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the checkout that this file lies in; None outside of one."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short=12", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() or None
    except (OSError, subprocess.CalledProcessError):
        return None
