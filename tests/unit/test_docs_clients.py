"""docs/clients.md shows the programs of docs/clients/ as they are: those that tests/acceptance/test_clients.py runs."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
SHOWN = re.compile(r"^\[([\w/.-]+)\]\(clients/\1\):\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_page_shows_every_program_as_it_is() -> None:
    """And programs stay short enough to be read there."""
    shown = dict(SHOWN.findall((DOCS / "clients.md").read_text()))
    files = {
        path.relative_to(DOCS / "clients").as_posix(): path.read_text()
        for suffix in ("java/*.java", "javascript/*.js")
        for path in (DOCS / "clients").glob(suffix)
    }
    assert len(files) == 6
    assert shown == files
    assert all(text.count("\n") <= 40 for text in files.values())
