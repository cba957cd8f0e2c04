"""Faults, bad inputs and promises by number, and that each has a test which claims it.

A test says `@pytest.mark.case(3)` or `@pytest.mark.promise(1, 4)`; `pytest -m case` runs what proves the cases.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

CASES = {
    1: "kill -9 with a transaction open, started again in the same slot",
    2: "kill -9 between writing and committing, at least once",
    3: "a member frozen past its session, then woken",
    4: "a transaction held for longer than its timeout",
    5: "a commit that is not answered",
    6: "a coordinator that moves or is not ready",
    7: "rebalances in mid-batch",
    8: "partitions lost",
    9: "an exception of ours in a rebalance callback",
    10: "brokers killed, away, and back",
    11: "two processes with one slot",
    12: "a forward pass longer than the poll interval",
    13: "a partition that stays paused",
    14: "an output without topic, right, login or replicas",
    15: "records deleted before they were read",
    16: "a full producer queue",
    17: "a result larger than its topic takes",
    18: "a dead letter larger than its topic takes",
    19: "a dead-letter topic that is gone",
    20: "a deployment that fails every record",
    21: "bytes that are no JSON",
    22: "JSON that breaks parsers: depth, digits, NaN, repeated fields, lone surrogates",
    23: "no value, an empty value, no key, a key of 10 MB",
    24: "fields that are missing, of another type, unknown or new",
    25: "texts that are empty, huge, over-long, or full of controls",
    26: "header floods, spoilt trace contexts, repeated headers",
    27: "a text that crashes the worker",
    28: "device memory that runs out",
    29: "a device that is broken",
    30: "a worker that hangs",
    31: "answers that are not finite or of another shape",
    32: "a Redis that is down, dying, silent, slow, full, read-only or locked",
    33: "garbage in Redis",
    34: "another model revision during a deployment",
    35: "clocks that jump, timestamps that can't be",
    36: "spans that nobody takes",
    37: "signals under load, twice, and at bad moments",
    38: "a replay that is repeated, killed, or fails again",
    39: "a replay of nothing, to nowhere, or without the right",
    40: "offsets with gaps, and partitions that are added",
    41: "a reader of the reports beside aborted and repeated work",
    42: "a full disk, no file descriptors left",
    43: "a transaction left open on the input",
    44: "a committed offset beyond the log's end",
    45: "an input topic deleted and made anew",
    46: "a batch that is damaged, or unpacks past the client's limit",
    47: "a group that does not let us in",
    48: "one of several inputs deleted",
    49: "a group whose offsets expired",
    50: "a timestamp that can be no time of writing",
    51: "records that are there and can't be read, seen from the brokers alone",
    52: "a group whose offsets are gone, all or in part",
    53: "an address that brokers announce and nobody answers at",
    54: "a Redis failover behind one address, and a Redis that takes no keys",
    55: "values in the framing of a schema registry on a pipeline of JSON",
    56: "pipelines in a ring, and a copied configuration in the group",
    57: "a result that the brokers refuse for good",
    58: "an input that grows beyond its output",
    59: "a way to the brokers that is slower than a transaction may be",
    60: "a limit that is raised as a dead letter advised",
    61: "a dead-letter topic no larger than the input",
    62: "answers larger than their inputs, and than memory",
    63: "offsets that are refused for good",
    64: "a record that takes whole processes down",
    65: "a held partition whose record is buried",
    66: "processes that end in order or by kill -9 with the same record in their hands",
    67: "the note of a death, and who writes it",
    68: "a text that ends or hangs its worker while it is encoded",
    69: "an event that asks for more than memory holds",
    70: "a text that exhausts memory, breaks the device, or has the words for it",
    71: "a template that the model raises for",
    72: "a model that starts processes of its own",
    73: "a model that prints, and one whose threads fail",
    74: "a worker whose replacement can't be loaded, or not yet",
    75: "a worker that never finishes loading",
    76: "workers that get ready and answer nothing, or never get ready",
    77: "a signal to stop before anything is ready",
    78: "a log that nobody reads",
    79: "one cause that fills the log",
    80: "a place of slots that is another's, a link, or not there; groups that are no file names",
    81: "secrets with the signs at which URLs are split",
    82: "of several pipelines one that is down for good, or killed",
    83: "a start without a file, a port or a right",
    84: "an order that is swapped between its dry run and its execution",
    85: "two replays of one dead-letter topic at a time",
    86: "dead letters whose headers name another topic, or one that is gone",
    87: "a replay after its pipeline was renamed",
    88: "an edit that changes nothing, or spoils a line",
    89: "a million closed dead letters, and a copy of their state that is damaged",
    90: "a console behind a proxy, in many tabs, and over many pipelines",
    91: "a replay whose records fail again",
    92: "a record that is never answered, for a reason that nobody names",
    93: "a worker that is past its lease, or that every worker dies of",
    94: "a settle that does not end, settles that come to nothing for ever",
    95: "a partition that stands: said in the log, in /readyz and in the metrics at once",
    96: "a pipeline that stands while all its signals are well",
    97: "a fault that lasts until somebody is called: there is an alert for it, and it fires",
}

PROMISES = {
    1: "exactly once, through kill -9 of any process",
    2: "at least once: nothing lost, repeats share their id",
    3: "results in the order of the input's partition",
    4: "offsets never pass unfinished work",
    5: "a bad message harms no neighbour",
    6: "the cache changes cost, never an answer",
    7: "no secret and no text in logs, traces, metrics and error headers",
    8: "safetensors only, hashed; no code from a model's directory",
    9: "replay: dry by default, at a rate, resumable, no loops",
    10: "traces that OpenTelemetry's tools read",
    11: "a graceful stop repeats nothing; a crash is recovered from soon",
    12: "bounded memory at any lag",
    13: "model health: each report counts once; drift is found, named, and raised for nothing within its budget",
}


def claims(marker: str) -> dict[int, list[str]]:
    """The tests that claim each number, read from their decorators without importing them."""
    found: dict[int, list[str]] = defaultdict(list)
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.FunctionDef | ast.ClassDef):
                continue
            for decorator in node.decorator_list:
                if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == f"pytest.mark.{marker}":
                    for argument in decorator.args:
                        found[ast.literal_eval(argument)].append(f"{path.relative_to(TESTS)}::{node.name}")
    return found


@pytest.mark.parametrize(("marker", "numbers"), [("case", CASES), ("promise", PROMISES)])
def test_each_is_claimed_by_a_test(marker: str, numbers: dict[int, str]) -> None:
    """No number without a test, and no test of a number that there is not."""
    assert list(numbers) == list(range(1, len(numbers) + 1))
    assert sorted(claims(marker)) == list(numbers)
