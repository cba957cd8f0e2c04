"""The pages in docs/ that say what there is: fields, variables, options and codes are those of the code."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from streamer.cli import main
from streamer.cli.config_page import page
from streamer.config.environment import path_of
from streamer.config.layers import LISTS, Layers
from streamer.config.load import load
from streamer.config.reference import Field, fields_of, settable
from streamer.errors import Code, ExitCode
from streamer.inference.tasks.option_values import options_of
from streamer.inference.tasks.options import OPTIONS

ROOT = Path(__file__).parents[2]
ERRORS = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")


def test_the_page_is_what_the_types_say() -> None:
    """`python -m streamer.cli.config_page > docs/configuration.md` after a change."""
    assert (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8") == page()


@pytest.mark.parametrize("table", [("kafka",), ("cache",), ("telemetry",), ("pipelines", "my-own")])
def test_each_variable_sets_its_field(table: tuple[str, ...]) -> None:
    """What is shown is what is read."""
    for field in fields_of(table):
        assert ".".join(path_of(field.variable, ["my-own"])) == field.key.replace("NAME", "name")


def rows(heading: str) -> dict[str, tuple[str, str]]:
    """The table below a heading of docs/errors.md, by its first column."""
    section = ERRORS.split(f"## {heading}\n")[1].split("\n## ")[0]
    found = re.findall(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", section, re.MULTILINE)
    return {
        code.strip("`"): (what, fix) for code, what, fix in found if code.strip("`")[0].isalnum() and code != "code"
    }


def test_every_exit_code_is_explained() -> None:
    """With what to do."""
    assert list(rows("Exit codes")) == [str(int(code)) for code in ExitCode]


def test_every_dead_letter_code_is_explained() -> None:
    """As schemas/codes.json says it, with what to do."""
    schema = json.loads((ROOT / "schemas" / "codes.json").read_text(encoding="utf-8"))
    found = rows("Codes of dead letters")
    assert {code: what for code, (what, _) in found.items()} == {
        one["const"]: one["description"] for one in schema["oneOf"]
    }
    assert list(found) == [code.value for code in Code]


@pytest.mark.parametrize("task", OPTIONS)
def test_each_option_says_what_it_does(task: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What a value must be, what there is without one, and in a full sentence what it does; also as JSON."""
    assert main(["config", "show", "--options", task]) == ExitCode.DONE
    text = capsys.readouterr().out
    assert main(["config", "show", "--json", "--options", task]) == ExitCode.DONE
    shown = json.loads(capsys.readouterr().out)["options"]
    options = options_of(task)
    assert [one["name"] for one in shown] == [option.name for option in options]
    assert {option.name for option in options} == {field.name for field in msgspec.structs.fields(OPTIONS[task])}
    for option in options:
        assert f"\n{option.name}: {option.kind}." in text
        assert option.kind
        assert option.about.endswith(".")
        assert len(option.about.split(". ")) > 1


@pytest.mark.parametrize(("given", "words"), [("", "name a task"), ("embeding", "did you mean embedding?")])
def test_a_task_that_is_none_is_answered_with_those_that_are(
    given: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where none is named."""
    assert main(["config", "show", "--options", *([given] if given else [])]) == ExitCode.USAGE
    said = capsys.readouterr().err
    assert words in said
    assert all(task in said for task in OPTIONS)


def test_the_variables_of_ones_own_pipelines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By their names; without a pipeline, of any."""
    file = tmp_path / "streamer.toml"
    file.write_text("[pipelines.my-own]\ntask = 't'\nmodel = 'builtin:null'\ninput = 'a'\noutput = 'b'\n")
    assert main(["config", "show", "--environment", "--config", str(file)]) == ExitCode.DONE
    lines = capsys.readouterr().out.splitlines()
    assert ["STREAMER_PIPELINES__MY_OWN__WORKERS", "pipelines.my-own.workers"] in [line.split() for line in lines]
    file.write_text("")
    assert main(["config", "show", "--environment", "--json", "--config", str(file)]) == ExitCode.DONE
    assert json.loads(capsys.readouterr().out)["STREAMER_CACHE__URL"] == "cache.url"


def test_each_variable_that_is_listed_sets_its_field(tmp_path: Path) -> None:
    """A value goes in by the variable, and comes out under the key."""
    file = tmp_path / "streamer.toml"
    file.write_text(
        "[pipelines.my-own]\ntask = 'text-classification'\nmodel = 'builtin:null'\ninput = 'a'\noutput = 'b'\n"
        "[health.rules.late]\nmetric = 'silent_s'\nthreshold = 9\n"
        "[health.rules.not-spelt]\nmetric = 'silent_s'\nthreshold = 9\n"
    )
    text = file.read_text()
    listed = settable(load(file, {}, []))
    keys = {field.key for field in listed}
    assert {"kafka.properties.NAME", "pipelines.my-own.options.NAME", "health.rules.late.severity"} <= keys
    assert not any("not-spelt" in key for key in keys) and not keys & {"health.rules", "kafka.properties"}
    for field in listed:
        given = _value_for(field)
        layers = Layers(tomllib.loads(text), str(file), tmp_path)
        layers.put_environment({field.variable: given})
        layers.build()
        assert not [each for each in layers.problems if not field.name.endswith("_file")], field
        node: Any = layers.tree
        for part in field.key.replace("NAME", "name").split("."):
            node = node[part]
        assert node == ([given] if field.name in LISTS else given), field


def _value_for(field: Field) -> str:
    if field.default is None:
        return "60"
    if field.default is msgspec.NODEFAULT or isinstance(field.default, dict | list):
        return "b"
    return str(field.default).lower()
