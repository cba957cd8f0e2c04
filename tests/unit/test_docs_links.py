"""Links between the pages lead somewhere: to a file that is there, and to a heading that it has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("deploy/*.md"), *ROOT.glob("streamer/**/*.md")]
)
LINK = re.compile(r"\]\(([^)\s]+)\)")
TEST_FILE = re.compile(r"`(?:tests/)?((?:[a-z]+/)?test_\w+\.py)`")


def prose_of(page: Path) -> str:
    """The page without its code, whose lines are no headings and no links."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def anchors_of(page: Path) -> set[str]:
    """What a link may name after `#`, as GitHub makes it of each heading; a heading that comes twice gets a number."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", prose_of(page), re.MULTILINE):
        text = LINK.sub("]", heading).lower()
        anchor = re.sub(r"[^\w\- ]", "", text).strip().replace(" ", "-")
        repeats = (f"{anchor}-{number}" for number in range(1, 1000))
        found.add(anchor if anchor not in found else next(each for each in repeats if each not in found))
    return found


def broken(page: Path) -> Iterator[str]:
    """The relative links of a page that lead nowhere."""
    for link in LINK.findall(prose_of(page)):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        if not target.exists():
            yield f"{page.name}: {link}: there is no {target}"
        elif anchor and anchor not in anchors_of(target):
            yield f"{page.name}: {link}: {target.name} has no such heading"


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_links_lead_to_files_and_headings(page: Path) -> None:
    """Relative ones; what the network holds is not asked."""
    assert not list(broken(page))


def test_tests_that_pages_name_exist() -> None:
    """README.md names a test for each of its guarantees."""
    named = {name for page in PAGES for name in TEST_FILE.findall(page.read_text())}
    assert len(named) > 40
    assert not [name for name in named if not list((ROOT / "tests").glob(name if "/" in name else f"*/{name}"))]


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    """A missing file, a missing heading, and nothing else."""
    (tmp_path / "other.md").write_text("# `a.b` and [c](x.md)\n\n# Twice\n\n# Twice\n")
    page = tmp_path / "page.md"
    page.write_text(
        "# Here\n\n[1](other.md#ab-and-c) [2](#here) [3](other.md#twice-1) [4](https://example.org)\n"
        "[5](absent.md) [6](other.md#twice-2) [7](#there)\n\n```\n# Code\n[8](absent.md)\n```\n\n[9](#code)\n"
    )
    assert [line.split(": ")[1] for line in broken(page)] == ["absent.md", "other.md#twice-2", "#there", "#code"]


def test_no_index_of_packages_is_named() -> None:
    """Each user has one of their own, or the tools' default: also where a lock would name it."""
    index = re.compile(
        r"https?://[\w.-]*(pypi|pythonhosted|npmjs|yarnpkg|repo1?\.maven|proxy\.golang|pytorch\.org/whl)"
    )
    folders = [path for name in ("docs", "deploy", ".ci") for path in (ROOT / name).rglob("*")]
    files = [path for path in (*ROOT.iterdir(), *folders) if path.is_file()]
    assert ROOT / "docs/clients/javascript/package-lock.json" in files
    assert not [path for path in files if index.search(path.read_text())]
