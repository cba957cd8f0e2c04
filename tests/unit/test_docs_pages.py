"""The pages are complete and true where a test can tell: in the site's menu, in their tables, in the names they use."""

from __future__ import annotations

import importlib
import re
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from streamer.config.fields import Config

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("[ds]*/*.md")])
IDS = [page.relative_to(ROOT).as_posix() for page in PAGES]


class SiteLoader(yaml.SafeLoader):  # type: ignore[misc]
    """Reads mkdocs.yml, which names Python functions."""


SiteLoader.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, suffix, node: suffix)


def places(nav: Any) -> list[str]:
    """The pages of a menu, from top to bottom."""
    if isinstance(nav, str):
        return [nav]
    return [place for one in (nav.values() if isinstance(nav, dict) else nav) for place in places(one)]


def test_every_page_is_in_the_menu_once() -> None:
    """`make docs` shows what a code host shows, and loads nothing from elsewhere."""
    site = yaml.load((ROOT / "docs/site/mkdocs.yml").read_text(), Loader=SiteLoader)
    assert sorted(places(site["nav"])) == IDS
    assert site["strict"] is True
    assert site["theme"]["font"] is False
    assert site["plugins"] == ["search"]


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_a_page_reads_the_same_on_a_code_host_and_as_a_site(page: Path) -> None:
    """Lists begin after an empty line, and code in a table has no | in it, escaped or not: the two differ there."""
    before = ""
    for line in re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE).splitlines():
        if re.match(r"(- |\d+\. )", line):
            assert not before or re.match(r"(- |\d+\. |  )", before), line
        if line.startswith("|"):
            assert r"\|" not in line, line
            assert line.count("`") % 2 == 0, line
            assert not any("|" in code for code in line.split("`")[1::2]), line
        before = line


def test_the_architecture_names_files_that_exist() -> None:
    """Paths in backticks, from the package or from the tree."""
    text = (ROOT / "streamer/ARCHITECTURE.md").read_text()
    named = {name.rstrip("/") for name in re.findall(r"`([a-z_]+(?:/[a-z_0-9]+)+/?)(?:\.py)?`", text)}
    assert len(named) > 30
    found = {
        name
        for name in named
        if any((base / name).is_dir() or (base / f"{name}.py").exists() for base in (ROOT / "streamer", ROOT))
    }
    assert found == named


def test_each_word_of_the_architecture_is_explained_once() -> None:
    """Two words in one cell belong together."""
    section = (ROOT / "streamer/ARCHITECTURE.md").read_text().split("## Words\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| ([a-z][^|]+) \|", section, re.MULTILINE)[1:]
    words = [word for row in rows for word in row.split(", ")]
    assert len(words) > 30
    assert len(words) == len(set(words))


def test_what_listens_by_default_listens_on_this_machine_alone() -> None:
    """As SECURITY.md promises."""
    config = Config()
    console: click.Command = importlib.import_module("streamer.cli.console").console
    (host,) = [param.default for param in console.params if param.name == "host"]
    listening = [address.rpartition(":")[0] for address in (config.telemetry.http, config.health.http)]
    assert all(ip_address(address).is_loopback for address in (*listening, str(host)))
