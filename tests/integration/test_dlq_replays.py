"""Replays among people, on a real cluster: the one that was shown, alone, to where it may go, and with what outcome."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from streamer.cli import main
from streamer.config.load import KafkaConfig
from streamer.core.deadletters.audit import AUDIT_TOPIC
from streamer.core.deadletters.state import STATE_TOPIC
from streamer.errors import ExitCode
from streamer.kafka.writer import Writer
from tests.integration.test_dlq import (
    Run,
    cluster,
    folders_of_its_own,
    json_lines,
    make,
    name,
    put,
    read,
    run,
    settings,
)
from tests.unit.deadletters_kit import ours
from tests.waiting import wait_for

__all__ = ["cluster", "folders_of_its_own", "name", "run"]


@pytest.mark.case(84)
def test_what_is_executed_is_what_was_shown(
    cluster: KafkaConfig, run: Run, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Under a digest nothing else moves: not another selection, rate or target, and not a dead letter that came
    since. The audit has who, the digest, the rate and the outcome."""
    make(cluster, f"{name}.other", 1)
    put(cluster, f"{name}.dlq", *(ours(n, origin=f"{name}.in") for n in range(3)))
    assert run("replay", f"{name}.dlq", "--rate", "100", "--json") == ExitCode.DONE
    digest = json_lines(capsys)[0]["digest"]
    execute = ("--execute", "--digest", digest)
    for other in ([], ["--rate", "99"], ["--rate", "100", "--max", "2"], ["--rate", "100", "--to", f"{name}.other"]):
        assert run("replay", f"{name}.dlq", *other, *execute) == ExitCode.USAGE
        assert "is not what that dry run showed" in capsys.readouterr().err
    put(cluster, f"{name}.dlq", ours(3, origin=f"{name}.in"))
    assert run("replay", f"{name}.dlq", "--rate", "100", *execute) == ExitCode.USAGE
    assert read(cluster, f"{name}.in") == []
    capsys.readouterr()
    bounded = ("replay", f"{name}.dlq", "--rate", "100", "--max", "3")
    assert run(*bounded, "--json") == ExitCode.DONE
    digest = json_lines(capsys)[0]["digest"]
    put(cluster, f"{name}.dlq", ours(4, origin=f"{name}.in"))
    assert run(*bounded, "--execute", "--digest", digest, "--job", f"j-{name}") == ExitCode.USAGE  # another name
    assert run(*bounded, "--execute", "--digest", digest) == ExitCode.DONE
    assert len(read(cluster, f"{name}.in")) == 3
    capsys.readouterr()
    assert run("audit", "--json", "--topic", f"{name}.dlq") == ExitCode.DONE
    (job,) = json_lines(capsys)
    assert "@" in job["by"]
    assert (job["digest"], job["rate_per_s"], job["wanted"]["most"], job["count"]) == (digest, 100, 3, 3)
    assert (job["action"], job["outcome"], job["refused"]) == ("replay", "done", 0)
    assert run("audit", "--topic", f"{name}.dlq") == ExitCode.DONE
    shown = capsys.readouterr().out
    assert job["job"] in shown
    assert digest in shown


@pytest.mark.case(85)
def test_a_second_replay_of_a_topic_is_refused_while_one_runs(
    cluster: KafkaConfig, run: Run, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is told whose job runs and ends with 7, and the first one goes on."""
    put(cluster, f"{name}.dlq", *(ours(n, origin=f"{name}.in") for n in range(40)))
    command = [sys.executable, "-m", "streamer", "dlq", "replay", "--execute", "--job", f"a-{name}"]
    command += [*settings(cluster, name), "--rate", "4"]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: bool(read(cluster, f"{name}.in")))
    for what in (["discard", "--reason", "r"], ["replay"]):
        assert run(what[0], f"{name}.dlq", *what[1:], "--execute") == ExitCode.FENCED
        assert f"job a-{name} of " in capsys.readouterr().err
    moved = len(read(cluster, f"{name}.in"))
    assert moved < 40
    wait_for(lambda: len(read(cluster, f"{name}.in")) > moved)
    first.kill()
    first.communicate()


@pytest.mark.case(86)
def test_no_headers_send_a_record_where_the_configuration_does_not(
    cluster: KafkaConfig, run: Run, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """To a topic that no pipeline reads, to one that can't be, or to one that is gone: these stay, the others move.
    `--to` takes no topic of Kafka's, of streamer's, or of dead letters."""
    make(cluster, f"{name}.payments", 1)
    make(cluster, f"{name}.other.dlq", 1)
    origins = (f"{name}.in", f"{name}.payments", "not a topic\x00", f"{name}.small", f"{name}.in")
    put(cluster, f"{name}.dlq", *(ours(n, origin=origin) for n, origin in enumerate(origins)))
    replay = ("replay", f"{name}.dlq", "--execute")
    for to in ("__consumer_offsets", STATE_TOPIC, AUDIT_TOPIC, "streamer.reports", "otlp_spans", "a b", "..",
               f"{name}.dlq", f"{name}.other.dlq"):  # fmt: skip
        assert run(*replay, "--to", to, "--set", "telemetry.spans=otlp_spans") == ExitCode.USAGE
        assert f"--to {to}: " in capsys.readouterr().err
    assert run(*replay, "--json") == ExitCode.SOME_FAILED
    (plan,) = json_lines(capsys)
    assert {(each["count"], each["why"].split(":")[0]) for each in plan["refused"]} == {
        (2, "no pipeline of the configuration reads the topic that its headers name"),
        (1, f"topic {name}.small is gone"),
    }
    assert len(read(cluster, f"{name}.in")) == 2
    assert read(cluster, f"{name}.payments") == []
    assert run(*replay, "--to", f"{name}.other.dlq", "--to-dead-letters") == ExitCode.DONE
    assert len(read(cluster, f"{name}.other.dlq")) == 3


@pytest.mark.case(87)
def test_a_renamed_pipeline_gets_its_records_back(
    cluster: KafkaConfig, run: Run, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is addressed to a pipeline that is not there, so that nobody would read it, unless it is said to whom."""
    put(cluster, f"{name}.dlq", ours(0, origin=f"{name}.in", pipeline="before"))
    for more in ([], ["--to", f"{name}.in"]):
        assert run("replay", f"{name}.dlq", "--execute", *more) == ExitCode.SOME_FAILED
        assert "if it was renamed, give --for PIPELINE" in capsys.readouterr().out
    assert read(cluster, f"{name}.in") == []
    assert run("replay", f"{name}.dlq", "--execute", "--for", "nobody") == ExitCode.USAGE
    assert run("replay", f"{name}.dlq", "--execute", "--for", "p") == ExitCode.DONE
    (record,) = read(cluster, f"{name}.in")
    assert dict(record.headers() or [])["streamer.replay.pipeline"] == b"p"


def test_what_a_job_closed_is_opened_again(
    cluster: KafkaConfig, run: Run, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """By its name, after a dry run; a job that closed nothing is an error."""
    put(cluster, f"{name}.dlq", ours(0, origin=f"{name}.in"), ours(1, origin=f"{name}.in"))
    discard = ("discard", f"{name}.dlq", "--reason", "oops", "--job", f"d-{name}", "--execute")
    assert run(*discard) == ExitCode.DONE
    assert run("reopen", f"d-{name}", f"{name}.dlq") == ExitCode.DONE
    capsys.readouterr()
    assert run("list", f"{name}.dlq", "--json") == ExitCode.DONE
    assert json_lines(capsys) == []
    assert run("reopen", f"d-{name}", f"{name}.dlq", "--execute") == ExitCode.DONE
    capsys.readouterr()
    assert run("list", f"{name}.dlq", "--json") == ExitCode.DONE
    assert len(json_lines(capsys)) == 2
    assert run("reopen", "no-such-job", f"{name}.dlq") == ExitCode.USAGE


@pytest.mark.case(91)
def test_what_became_of_a_replay_is_told(
    cluster: KafkaConfig, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before a pipeline has read them, and after: those that were fixed are answered, those that were not fail again
    and are named. Each is found by its key, its event's id and its trace."""
    for end, limit in (("a", "1048588"), ("b", "1048588"), ("b.dlq", "1112588")):
        make(cluster, f"{name}.{end}", 1, **{"max.message.bytes": limit})
    path = tmp_path / "own.toml"
    path.write_text(
        f'[kafka]\nbootstrap_servers = "{cluster.bootstrap_servers}"\n'
        '[telemetry]\nspans = ""\nreports = ""\nhttp = ""\n'
        f'[pipelines.{name}]\ntask = "t"\nmodel = "builtin:null"\ninput = "{name}.a"\noutput = "{name}.b"\n'
    )

    def settle() -> None:
        command = [sys.executable, "-m", "streamer", "run", "--until-end", "--config", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=90)
        assert done.returncode == ExitCode.DONE, done.stderr

    def dlq(*arguments: str, code: int = ExitCode.DONE) -> list[dict[str, Any]]:
        capsys.readouterr()
        assert main(["dlq", *arguments, "--json", "--config", str(path)]) == code
        return json_lines(capsys)

    trace = "0af7651916cd43dd8448eb211c80319c"
    with Writer(cluster) as writer:
        for number in range(6):
            value = b'{"id": "e%d", "text": ""}' % number
            headers: Any = [("traceparent", f"00-{trace[:-1]}{number}-b7ad6b7169203331-01".encode())]
            writer.write(f"{name}.a", value, key=b"k%d" % number, headers=headers, partition=0)
        writer.flush()
    settle()
    for query in (("--key", "k4"), ("--id", "e4"), ("--trace", f"{trace[:-1]}4")):
        (found,) = dlq("show", *query)
        assert (found["event_id"], found["record"]["key"]) == ("e4", "k4")
    dlq("edit", "--patch", '{"text": "fine"}', "--max", "3", "--job", f"fixed-{name}", "--execute")
    dlq("replay", "--max", "2", "--job", f"same-{name}", "--execute")
    (early,) = dlq("outcome", f"fixed-{name}")
    assert (early["sent"], early["not_yet"], early["answered"]) == (3, 3, 0)
    settle()
    (fixed,) = dlq("outcome", f"fixed-{name}")
    assert (fixed["sent"], fixed["answered"], fixed["failed_again"], fixed["gone"]) == (3, 3, 0, 0)
    (same,) = dlq("outcome", f"same-{name}", code=ExitCode.SOME_FAILED)
    assert (same["sent"], same["answered"], same["failed_by_code"]) == (2, 0, {"validate.empty_text": 2})
    (found,) = dlq("show", "--id", "e3", "--attempts", "2")
    place = "{topic}/{partition}/{offset}".format(**found["record"])
    assert place in same["examples"]
    dlq("outcome", "no-such-job", code=ExitCode.USAGE)
