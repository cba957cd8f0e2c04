"""The human-scored texts and words of the VADER source distribution, from which the demo's data and model are made.

Source: C.J. Hutto and E. Gilbert, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media
Text", ICWSM-14. The texts are only in the source distribution of the PyPI package vaderSentiment (MIT), as
``additional_resources/hutto_ICWSM_2014.tar.gz``; the wheel lacks them.
"""

from __future__ import annotations

import hashlib
import html
import io
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

VERSION = "3.3.2"
SDIST_NAME = f"vaderSentiment-{VERSION}.tar.gz"
SDIST_SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
_ROOT = f"vaderSentiment-{VERSION}"
_TEXTS = f"{_ROOT}/additional_resources/hutto_ICWSM_2014.tar.gz"
_LEXICON = f"{_ROOT}/vaderSentiment/vader_lexicon.txt"
_FILES = {
    "tweets": "tweets_GroundTruth.txt",
    "films": "movieReviewSnippets_GroundTruth.txt",
    "products": "amazonReviewSnippets_GroundTruth.txt",
    "editorials": "nytEditorialSnippets_GroundTruth.txt",
}


class SourceError(Exception):
    """The source distribution cannot be had or is not the expected one; the message says how to fix it."""


@dataclass(frozen=True, slots=True)
class Snippet:
    """A text and the mean of its human scores, -4 (most negative) to 4 (most positive)."""

    score: float
    text: str


@dataclass(frozen=True, slots=True)
class Vader:
    """Everything scored: ``texts`` by source (tweets, films, products, editorials) and single words and emoticons."""

    texts: dict[str, list[Snippet]]
    lexicon: list[Snippet]


def fetch_sdist(directory: Path) -> Path:
    """Download the source distribution with pip into ``directory`` and return its path.

    Raises SourceError where pip is missing or fails.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "vaderSentiment"]
    command += ["--dest", str(directory), f"vaderSentiment=={VERSION}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last_line = done.stderr.strip().rpartition("\n")[2]
        raise SourceError(
            f"pip could not download {SDIST_NAME} ({last_line}); "
            "install pip in this environment, or fetch that file yourself and pass it with --sdist FILE"
        )
    return directory / SDIST_NAME


def read_sdist(sdist: Path) -> Vader:
    """Read texts and lexicon from the source distribution.

    HTML entities are unescaped and texts of the same words (case and white space apart) are kept once a source.
    Raises SourceError if the file is not the pinned one.
    """
    data = sdist.read_bytes()
    if hashlib.sha256(data).hexdigest() != SDIST_SHA256:
        raise SourceError(f"{sdist} is not {SDIST_NAME} with sha256 {SDIST_SHA256}; download it again")
    with tarfile.open(fileobj=io.BytesIO(data)) as outer:
        lexicon = _rows(_member(outer, _LEXICON), text_column=0)
        with tarfile.open(fileobj=io.BytesIO(_member(outer, _TEXTS))) as inner:
            texts = {
                source: _rows(_member(inner, f"hutto_ICWSM_2014/{name}"), text_column=2)
                for source, name in _FILES.items()
            }
    return Vader(texts, lexicon)


def fold(text: str) -> str:
    """Return what two texts share when they say the same: lower case, white space collapsed."""
    return " ".join(text.lower().split())


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    if file is None:
        raise SourceError(f"{name} in the source distribution is not a file")
    return file.read()


def _rows(data: bytes, *, text_column: int) -> list[Snippet]:
    snippets: dict[str, Snippet] = {}
    for line in data.decode("utf-8-sig").splitlines():
        columns = line.split("\t")
        text = html.unescape(columns[text_column]).strip()
        if text:
            snippets.setdefault(fold(text), Snippet(float(columns[1]), text))
    return list(snippets.values())
