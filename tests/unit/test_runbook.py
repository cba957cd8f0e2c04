"""deploy/RUNBOOK.md is complete and true: each alert and exit code, its commands, its rights, and the systemd unit."""

from __future__ import annotations

import configparser
import importlib
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from streamer.app.supervisor import FINAL
from streamer.cli import COMMANDS, cli
from streamer.config.pipeline import PipelineConfig
from streamer.core.standing import Reason
from streamer.errors import ExitCode
from tests.programs import program
from tests.unit.test_docs_links import anchors_of

ROOT = Path(__file__).parents[2]
RUNBOOK = ROOT / "deploy/RUNBOOK.md"
TEXT = RUNBOOK.read_text()
UNIT = ROOT / "deploy/systemd/streamer@.service"
RULES = [
    rule
    for path in sorted((ROOT / "deploy/prometheus").glob("*.rules.yml"))
    for group in yaml.safe_load(path.read_text())["groups"]
    for rule in group["rules"]
]
BASE = "{{ $externalLabels.runbooks }}"
NEITHER = {ExitCode.DONE, ExitCode.SECOND_SIGNAL}  # asked for: a supervisor takes neither for a failure

Right = tuple[str, str, str, frozenset[str]]


def blocks() -> list[str]:
    """The lines of all code blocks that are commands."""
    return [
        line.strip()
        for language, block in re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
        if not language
        for line in block.splitlines()
    ]


def commands() -> list[str]:
    """All command lines of ours: in code blocks, and in backticks."""
    quoted = re.findall(r"`(streamer [^`\n]+)`", TEXT.replace("\n", " "))
    return [line.partition(" #")[0] for line in [*blocks(), *quoted] if line.startswith("streamer ")]


def test_each_alert_has_its_section_and_leads_there() -> None:
    """With commands, and by the anchor that code hosts make of its name."""
    assert len(RULES) == 18
    anchors = anchors_of(RUNBOOK)
    for rule in RULES:
        url = rule["annotations"]["runbook_url"]
        assert url == f"{BASE}deploy/RUNBOOK.md#{rule['alert'].lower()}"
        assert url.partition("#")[2] in anchors, rule["alert"]
        section = TEXT.split(f"\n## {rule['alert']}\n")[1].split("\n## ")[0]
        assert "```" in section, rule["alert"]
    sections = set(re.findall(r"^## (Streamer\w+)$", TEXT, re.MULTILINE))
    assert sections == {rule["alert"] for rule in RULES}


def test_each_exit_code_has_a_line_which_says_whether_to_start_again() -> None:
    """As `streamer run` with several pipelines does it itself."""
    table = TEXT.split("\n# Exit codes\n")[1].split("\n# ")[0]
    rows = dict(re.findall(r"^\| (\d+) \| ([a-z ]+) \|", table, re.MULTILINE))
    assert set(rows) == {str(int(code)) for code in ExitCode}
    for code in set(ExitCode) - NEITHER - {ExitCode.SOME_FAILED, ExitCode.ATTENTION}:  # `run` never ends with these
        assert rows[str(int(code))] == ("no" if code in FINAL else "yes"), code


def test_each_reason_to_stand_has_a_line() -> None:
    section = TEXT.split("\n## StreamerPartitionsStand\n")[1].split("\n## ")[0]
    named = {
        word for cell in re.findall(r"^\| (`.*?) \|", section, re.MULTILINE) for word in re.findall(r"`(\w+)`", cell)
    }
    assert named == set(Reason)


def first_commands(anchor: str) -> list[list[str]]:
    """The commands of ours in the first code block of an alert's section, by its anchor: their words."""
    sections = re.split(r"^##? ", TEXT, flags=re.MULTILINE)
    (section,) = [each for each in sections if each.partition("\n")[0].lower() == anchor]
    block = section.split("```\n")[1]
    return [shlex.split(line)[1:] for line in block.splitlines() if line.startswith("streamer ")]


def parse(words: list[str]) -> click.Context:
    """As the command line does, without running it. Raises click.UsageError for what does not exist."""
    context, command = click.Context(cli), importlib.import_module(f"streamer.cli.{words[0]}")
    found: Any = getattr(command, words[0])
    rest = words[1:]
    while isinstance(found, click.Group) and rest and not rest[0].startswith("-"):
        child = found.get_command(context, rest.pop(0))
        assert child is not None, f"no such command: {' '.join(words)}"
        found = child
    if isinstance(found, click.Group) or (not rest and "..." not in " ".join(words)):
        return context
    parser = found.make_parser(context)
    given, _, _ = parser.parse_args(list(rest))
    for param in found.params:
        if param.name in given and isinstance(param, click.Option):
            param.type_cast_value(context, given[param.name])
    return context


def test_its_commands_exist_with_these_options() -> None:
    """And their values are of the kind that each option takes."""
    found = commands()
    assert len(found) > 40
    for line in found:
        words = shlex.split(line)[1:]
        assert words[0] in COMMANDS, line
        try:
            parse(words)
        except click.UsageError as error:
            pytest.fail(f"{line}: {error.format_message()}")
    for wrong in ("streamer lag --since 1h", "streamer dlq causes --cuase x", "streamer bench scale --rate many"):
        with pytest.raises(click.UsageError):
            parse(shlex.split(wrong)[1:])


def rights(user: str) -> set[Right]:
    """What the lines of kafka-acls give this user: kind, name, pattern and operations."""
    found = set[Right]()
    kinds = {"--topic": "topic", "--group": "group", "--transactional-id": "transactionalId"}
    for line in blocks():
        words = shlex.split(line) if line.startswith("acl --") else []
        options = list(zip(words[1::2], words[2::2], strict=True))
        if ("--allow-principal", f"User:{user}") not in options:
            continue
        operations = frozenset(value for option, value in options if option == "--operation")
        pattern = dict(options).get("--resource-pattern-type", "literal").removesuffix("ed")
        found |= {(kinds[option], name, pattern, operations) for option, name in options if option in kinds}
    return found


@pytest.mark.parametrize("role", ["run", "ops", "health"])
def test_its_rights_are_those_of_the_chart(role: str) -> None:
    """Strimzi's users, as Helm renders them. tests/acceptance/test_security.py uses both on a broker."""
    chart = ROOT / "deploy/helm/streamer"
    command = (program("helm", "chart"), "template", "reviews", str(chart), "--namespace=prod", "--kube-version=1.37.0")
    values = chart / "ci/everything-values.yaml"
    ran = subprocess.run([*command, f"--values={values}"], capture_output=True, text=True, check=True, timeout=60)
    (user,) = [
        one
        for one in yaml.safe_load_all(ran.stdout)
        if one and one["kind"] == "KafkaUser" and one["metadata"]["name"] == f"reviews-{role}"
    ]
    made = {
        (*(acl["resource"][key] for key in ("type", "name", "patternType")), frozenset(acl["operations"]))
        for acl in user["spec"]["authorization"]["acls"]
    }
    assert rights(f"reviews-{role}") == made


def unit() -> dict[str, str]:
    """The section [Service]."""
    read = configparser.ConfigParser(interpolation=None, strict=False)
    read.optionxform = str  # type: ignore[assignment, method-assign]
    read.read(UNIT)
    return dict(read["Service"])


def test_the_unit_restarts_after_what_a_restart_fixes_and_lets_it_stop() -> None:
    service = unit()
    never = {int(code) for code in service["RestartPreventExitStatus"].split()}
    assert never >= {int(code) for code in FINAL} - {0}
    assert not never & {ExitCode.BUG, ExitCode.DEPENDENCY, ExitCode.DRAIN_DEADLINE}
    assert service["SuccessExitStatus"].split() == ["130", "143"]
    defaults = dict(
        zip(reversed(PipelineConfig.__struct_fields__), reversed(PipelineConfig.__struct_defaults__), strict=False)
    )
    assert int(service["TimeoutStopSec"]) == defaults["stop_deadline_s"] + 15
    assert service["Type"] == "exec"  # it tells systemd nothing
    words = shlex.split(service["ExecStart"])
    assert words[0].endswith("/streamer")
    parse(words[1:])


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    """And finds little that it leaves open."""
    if (tool := shutil.which("systemd-analyze")) is None:
        pytest.skip("there is no systemd here")
    copy = tmp_path / "streamer@reviews.service"
    copy.write_text(UNIT.read_text().replace("/opt/streamer/bin/streamer", "/bin/true"))
    for check in (("verify",), ("security", "--offline=true", "--threshold=25")):
        ran = subprocess.run([tool, *check, str(copy)], capture_output=True, text=True, timeout=60)
        assert (ran.returncode, ran.stderr) == (0, ""), ran.stderr
