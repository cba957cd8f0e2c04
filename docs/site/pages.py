"""Which files the site is made of: a hook of mkdocs, which by itself reads one folder only."""

from __future__ import annotations

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("*.md", "docs/*.md", "deploy/RUNBOOK.md", "streamer/ARCHITECTURE.md")
# Linked from pages, and in no menu.
LINKED = (
    "LICENSE",
    "deploy/**/*.y*ml",
    "docs/clients/*/*.j*",
    "deploy/systemd/*",
    "schemas/**/*",
    "streamer/decisions/*.md",
    "streamer/demo/data/*.md",
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Pages lie where they lie in the repository, not in docs/ alone."""
    for file in list(files):
        if file.src_dir == config.docs_dir:
            files.remove(file)
    for patterns, inclusion in ((PAGES, InclusionLevel.INCLUDED), (LINKED, InclusionLevel.NOT_IN_NAV)):
        for path in (path for pattern in patterns for path in sorted(ROOT.glob(pattern)) if path.is_file()):
            place = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, place, abs_src_path=str(path), inclusion=inclusion))
    return files
