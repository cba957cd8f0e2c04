"""The pages in docs/ that say what there is: fields, variables, options and codes are those of the code."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest

from streamer.cli import main
from streamer.cli.config_page import page
from streamer.config.environment import path_of
from streamer.config.reference import fields_of
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
        if field.key != "kafka.properties":  # whose variables go on with a property's name
            assert ".".join(path_of(field.variable, ["my-own"])) == field.key


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
