"""A record whose header name is not UTF-8, which a Python client can't read, ends neither a run nor a tail."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.acceptance.harness import ROOT, Lab, event, wait_for
from tests.integration.bad_header import write_bad_header


@pytest.mark.slow
@pytest.mark.case(26)
def test_a_header_that_cant_be_read_costs_its_own_record_only(lab: Lab) -> None:
    """Among thousands, so that the interpreter has specialised its loops: one dead letter, `decode.utf8`, and all the
    other results; `tail` shows the input topic to its end."""
    lab.topics(1)
    lab.produce(event(number) for number in range(2_000))
    write_bad_header(lab.bootstrap_servers, lab.input, b'{"text": "1"}')
    reader = lab.reader()
    run = lab.start(lab.config(), "--until-end")
    assert run.wait() == 0, run.log
    wait_for(lambda: reader.count >= 2_001, "all outcomes")
    assert [outcome.code for outcome in reader.outcomes if outcome.code] == ["decode.utf8"]
    (letter,) = [outcome for outcome in reader.outcomes if outcome.code]
    assert (letter.value, letter.place.offset) == (b'{"text": "1"}', 2_000)

    command = [sys.executable, "-m", "streamer", "tail", lab.input, "--until-end"]
    command += ["--set", f"kafka.bootstrap_servers={lab.bootstrap_servers}"]
    shown = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert shown.returncode == 0, shown.stderr
    assert len(shown.stdout.splitlines()) == 2_001
