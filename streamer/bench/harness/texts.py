"""Real texts that every installation has: tweets that the demo ships, and the docstrings of installed packages."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import msgspec

from streamer import demo

PACKAGES = ("numpy", "transformers")
LONG_CHARACTERS = 1_500
PARAGRAPH_CHARACTERS = 40


@dataclass(frozen=True, slots=True)
class Texts:
    """A named set."""

    name: str
    source: str
    texts: list[str]


def real_texts(short: int) -> list[Texts]:
    """`short` tweets, half as many docstrings as they come, and an eighth as many long ones; none twice in a set."""
    packages = " and ".join(PACKAGES)
    mixed: dict[str, None] = {}
    long: dict[str, None] = {}
    for text in _docstrings():
        if len(mixed) < max(2, short // 2):
            mixed[text] = None
        if len(text) >= LONG_CHARACTERS:
            long[text] = None
        if len(mixed) >= max(2, short // 2) and len(long) >= max(2, short // 8):
            break
    return [
        Texts("short", "tweets of streamer/demo/data", list(islice(dict.fromkeys(_tweets()), short))),
        Texts("mixed", f"docstrings of {packages}", list(mixed)),
        Texts(
            "long",
            f"docstrings of {packages} from {LONG_CHARACTERS:,} characters on",
            list(islice(long, max(2, short // 8))),
        ),
    ]


def mixed_texts(count: int) -> Texts:
    """Tweets, docstrings and their paragraphs, shuffled the same way each time; none twice, and perhaps fewer than
    `count` where the packages have not so many."""
    found = dict.fromkeys(islice(_tweets(), count // 2))
    for text in _docstrings():
        found[text] = None
        found.update(dict.fromkeys(part for part in text.split("\n\n") if len(part) >= PARAGRAPH_CHARACTERS))
        if len(found) >= 2 * count:
            break
    shuffled = sorted(found, key=lambda text: hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())
    return Texts(
        "mixed", f"tweets, and docstrings of {' and '.join(PACKAGES)}, whole and by paragraph", shuffled[:count]
    )


def _tweets() -> Iterator[str]:
    for _, value in demo.events():
        yield msgspec.json.decode(value)["text"]


def _docstrings() -> Iterator[str]:
    """All docstrings of the packages, file by file, in an order that is the same each time and has nothing to do with
    their subject."""
    files: list[Path] = []
    for package in PACKAGES:
        found = importlib.util.find_spec(package)
        if found is not None and found.submodule_search_locations:
            root = Path(found.submodule_search_locations[0])
            files += [file for file in root.rglob("*.py") if "tests" not in file.parts]
    files.sort(key=lambda file: hashlib.sha256(file.name.encode()).digest())
    for file in files:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            tree = ast.parse(file.read_bytes())
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (text := ast.get_docstring(node)):
                yield text
