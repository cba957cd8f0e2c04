"""The direction of dependencies, read from the imports: what may import what, and who alone talks to which library."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "streamer"

# Each layer may import the ones below it, and itself. Parts of one row are strangers to one another.
LAYERS: list[set[str]] = [
    {"cli", "__main__"},
    {"console", "health", "scaler"},
    {"bench", "demo", "simulation"},
    {"testing"},
    {"app", "ops"},
    {"kafka", "inference", "cache", "telemetry", "local", "files"},
    {"ports", "machine"},
    {"config"},
    {"core"},
    {"extras"},
    {"errors", "model", "stopping", "stderr", "lazy"},
]
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}
# Parts of these rows may import one another.
FRIENDS = [row for row in LAYERS if row & {"cli", "demo"}]

OWNERS = {
    "confluent_kafka": {"kafka"},
    "torch": {"inference"},
    "transformers": {"inference"},
    "openvino": {"inference"},
    "tokenizers": {"inference"},
    "safetensors": {"inference"},
    "redis": {"cache"},
    "httpx": {"inference"},
    "opentelemetry": {"telemetry", "inference"},  # in a worker: the spans of a class's own code
    "prometheus_client": {"telemetry"},
    "starlette": {"console"},
    "uvicorn": {"console"},
    "faust": {"health"},
    "aiokafka": {"health"},
    "grpc": {"scaler"},
}
# Beside the product: the demo has an LSTM as a worked example, `tail` reads the spans that others wrote, and
# benchmarks time other people's loops.
EXCEPTIONS = {"demo/lstm.py", "cli/records.py"}
EXCEPTED_PARTS = {"bench"}

# The rooms of core/health, each of which may import those before it.
HEALTH = [
    "sums",
    "quality",
    "judges",
    "evaluation",
    "windows",
    "drift",
    "words",
    "keeper",
    "feedback",
    "alerts",
    "pages",
]

CORE_MAY_IMPORT = {"msgspec"}
IMPURE = {
    "asyncio",
    "logging",
    "multiprocessing",
    "os",
    "random",
    "secrets",
    "select",
    "socket",
    "subprocess",
    "threading",
    "time",
    "uuid",
}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: import by absolute name"
            yield node.module
            if node.module == "streamer":
                yield from (f"streamer.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_what_lies_below_it(path: Path) -> None:
    """Dependencies point one way, and adapters never import one another."""
    mine = part_of(path)
    if mine == "__init__":
        return
    for name in imports(path):
        parts = name.split(".")
        if parts[0] != "streamer" or len(parts) == 1:
            continue
        theirs = parts[1]
        if theirs == mine or theirs not in LEVEL:
            assert theirs in LEVEL or theirs in ("__version__", mine), f"{name} has no place in LAYERS"
            continue
        friends = any(mine in row and theirs in row for row in FRIENDS)
        assert LEVEL[theirs] > LEVEL[mine] or friends, f"{mine} may not import {name}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_library_is_imported_by_its_owner_alone(path: Path) -> None:
    """Only streamer.kafka knows confluent_kafka, only streamer.inference torch, and so on."""
    mine = part_of(path)
    if mine in EXCEPTED_PARTS or str(path.relative_to(PACKAGE)) in EXCEPTIONS:
        return
    for name in imports(path):
        library = name.split(".")[0]
        assert mine in OWNERS.get(library, {mine}), f"{library} belongs to {OWNERS[library]}"


@pytest.mark.parametrize(
    "path", sorted((PACKAGE / "core").rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_the_core_is_pure(path: Path) -> None:
    """No clock, thread, socket, logger or random number in core."""
    for name in imports(path):
        library = name.split(".")[0]
        assert library not in IMPURE, f"core imports {name}"
        assert library in sys.stdlib_module_names | CORE_MAY_IMPORT | {"streamer"}, f"core imports {name}"
    calls = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
    assert not calls & {"now", "today", "utcnow"}, "core takes the time as an argument"


@pytest.mark.parametrize("path", sorted((PACKAGE / "core/health").rglob("*.py")), ids=lambda path: path.stem)
def test_the_rooms_of_health_build_on_those_before_them(path: Path) -> None:
    """What is counted knows nothing of what is judged, and neither of what is shown."""
    mine = path.relative_to(PACKAGE / "core/health").parts[0].removesuffix(".py")
    theirs = {name.split(".")[3] for name in imports(path) if name.startswith("streamer.core.health.")}
    assert theirs <= set(HEALTH[: HEALTH.index(mine) + 1] if mine != "__init__" else ())


def test_every_part_has_its_place() -> None:
    """A new top-level part must be put into LAYERS."""
    parts = {part_of(path) for path in modules()} - {"__init__"}
    assert parts <= set(LEVEL), parts - set(LEVEL)
