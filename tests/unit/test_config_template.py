"""The configuration that `streamer init` writes."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import msgspec
import pytest

from streamer.config.template import Template
from streamer.inference.backends.samples import sample_event
from streamer.inference.models.checks import WINDOWED, check
from streamer.inference.spec import WorkerSpec
from streamer.inference.tasks.options import OPTIONS


def template(task: str, **more: Any) -> Template:
    event = json.dumps({"id": "1", **sample_event(task)})
    known = {"name": "p", "model": "m", "model_note": "a note", "input": "in", "output": "out"}
    return Template(**{**known, "task": task, "event": event, "windows": task in WINDOWED, **more})


@pytest.mark.parametrize("task", OPTIONS)
def test_every_task_has_a_file_that_reads_well(task: str) -> None:
    """In lines that fit a screen; and the option that it shows is one of the task, with a value that it takes."""
    text = template(task, max_tokens=96, labels=("a", "b")).render()
    assert max(map(len, text.splitlines())) <= 120
    pipeline = tomllib.loads(text)["pipelines"]["p"]
    assert not any(" # " not in line for line in text.splitlines() if "#" in line[1:])
    assert (pipeline["task"], pipeline["input"], pipeline["dead_letter"]) == (task, ["in"], "out.dlq")
    assert ('"window"' in text) == (task in WINDOWED)
    shown = text.replace("# [pipelines.p.options]\n# ", "[pipelines.p.options]\n")
    options = tomllib.loads(shown)["pipelines"]["p"].get("options", {})
    assert not list(check(WorkerSpec("p", task, "m", options=options)))
    assert bool(options) == (task not in ("similarity", "rerank"))


def test_what_files_say_stays_in_its_comment() -> None:
    """Labels are anybody's words."""
    labels = ("good\n[kafka]", "\x00bad", *(f"label {number}" for number in range(40)))
    text = template("text-classification", labels=labels, input='in"#\n[cache]').render()
    assert tomllib.loads(text)["pipelines"]["p"]["input"] == ['in"#\n[cache]']
    assert "labels: good [kafka], bad, label 0" in text
    assert "label 39" not in text


def test_what_was_answered_is_in_it() -> None:
    """Each of the answers, and a download only where it was allowed."""
    given = template("embedding", cache_url="redis://h:1/0", allow_downloads=True, bootstrap_servers="a:1,b:2")
    read = tomllib.loads(given.render())
    assert read["kafka"] == {"bootstrap_servers": "a:1,b:2"}
    assert read["cache"] == {"url": "redis://h:1/0"}
    assert read["pipelines"]["p"]["allow_downloads"] is True
    without = msgspec.structs.replace(given, allow_downloads=False)
    assert "allow_downloads" not in without.render()
