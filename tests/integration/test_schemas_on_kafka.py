"""A topic in Avro on a real cluster: records wait while the registry is away, and bad ones keep their bytes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

from streamer.app.start import RunOptions, start
from streamer.cli import main
from streamer.config.load import load
from streamer.core.health.feedback.join import Result
from streamer.core.standing import Reason
from streamer.errors import ExitCode
from streamer.health.feedback.named import NamedResults
from streamer.kafka.lookup import ResultLookUp, Source
from streamer.kafka.reader import Reader
from streamer.kafka.readings import Results
from tests.acceptance.harness import PIPELINE, Given, Lab, wait_for
from tests.conftest import Kafka
from tests.integration.in_process import running
from tests.schema_registry import BY_TOPIC, TICKET, SchemaServer, avro, schema_server

EVENT = {"text": "It does not start", "price": Decimal("1.50"), "metadata": {"lang": "en"}}


@pytest.fixture
def lab(kafka: Kafka, tmp_path: Path) -> Iterator[Lab]:
    with Lab(kafka.bootstrap_servers, tmp_path) as lab:
        yield lab


@pytest.fixture
def server() -> Iterator[SchemaServer]:
    with schema_server() as server:
        yield server


def test_a_registry_that_is_away_holds_records_and_says_so(lab: Lab, server: SchemaServer) -> None:
    """Nothing becomes a dead letter for it; once it is back all is answered, and it is asked once a schema."""
    lab.topics(2)
    client = server.client()
    values = [avro(client, {"id": number, **EVENT}, lab.input)[0] for number in range(6)]
    bad = values[0][:-4]
    lab.produce(Given(b"k", value, []) for value in (*values, bad))
    reader = lab.reader()
    server.status, server.asked = 503, []
    with running(lab, {"STREAMER_SCHEMA_REGISTRY__URL": server.url}, model="builtin:null", input_format="avro") as run:
        standings = run.signals.standings
        wait_for(
            lambda: {one.reason for one in standings.current} == {Reason.SCHEMA_REGISTRY},
            "the registry's outage to be said",
        )
        assert any(f"the schema registry at {server.url} gives no schemas" in told for told in run.unready())
        assert not reader.outcomes
        server.status, server.asked = None, []
        wait_for(lambda: reader.count == 7, "all outcomes")
        wait_for(lambda: not standings.current, "nothing to stand")
    assert server.asked == ["/schemas/ids/1"]
    told = [json.loads(one.value or b"") for one in reader.outcomes if not one.code]
    assert sorted((one["id"], one["metadata"]["lang"]) for one in told) == [(str(number), "en") for number in range(6)]
    assert [(one.code, one.value) for one in reader.outcomes if one.code] == [("decode.schema", bad)]


def test_a_partition_that_waits_leaves_the_others_their_room(lab: Lab, server: SchemaServer) -> None:
    """Its backlog is three times the budget: it is not read on, and then is, from where that was."""
    lab.topics(2)
    client, count = server.client(), 500
    known = avro(client, {"id": 0, **EVENT}, lab.input)[0]
    lab.produce([Given(b"k", known, [])] * 2)
    reader = lab.reader()
    given = {"STREAMER_SCHEMA_REGISTRY__URL": server.url}
    fields: dict[str, Any] = {"model": "builtin:null", "budget_mb": 1, "micro_batch_records": 50}
    with running(lab, given, input_format="avro", **fields) as run:
        wait_for(lambda: reader.count == 2, "the first schema to be learned")
        waits = avro(client, {"id": 0, **EVENT}, lab.input, {**TICKET, "doc": "another one"})[0]
        server.status = 503
        for times in (1, 2):
            lab.produce([Given(b"k", waits, []), Given(b"k", known, [])] * count)
            wait_for(lambda times=times: reader.count == 2 + times * count, "the other partition's outcomes", 60)
            wait_for(lambda: run.signals.standings.current, "the first to be named")
        assert {one.partition for one in run.signals.standings.current} == {(lab.input, 0)}
        server.status = None
        wait_for(lambda: reader.count == 2 + 4 * count, "all outcomes", 60)
    assert not [one for one in reader.outcomes if one.code]


def test_results_in_avro_are_read_by_subscribers_and_by_our_tools(
    lab: Lab, server: SchemaServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """From Avro to Avro: `tail` and `save` show JSON, feedback finds its result, and a replay keeps the id."""
    lab.topics(1)
    client = server.client()
    for number in range(3):
        event = {"id": number, **EVENT, "text": "" if number == 1 else "a"}
        lab.produce([Given(b"k", avro(client, event, lab.input)[0], [])])
    fields: dict[str, Any] = {"model": "builtin:null", "input_format": "avro", "output_format": "avro"}
    config = load(lab.config(**fields), {"STREAMER_SCHEMA_REGISTRY__URL": server.url})
    assembly = start(config, PIPELINE, RunOptions(until_end=True))
    assert assembly.driver.run() == ExitCode.DONE
    assembly.close(1)
    with Reader(config.kafka, [lab.output], start="earliest") as results:
        values = [message.value() for message in results.read_until_end()]
    read = AvroDeserializer(client, conf=BY_TOPIC)
    context = SerializationContext(lab.output, MessageField.VALUE)
    told: list[Any] = [read(value, context) for value in values]
    assert [(one["id"], one["source"]["offset"]) for one in told] == [("0", 0), ("2", 2)]
    assert {type(one["output"]) for one in told} == {str}
    settings = ["--config", str(lab.config(**fields)), "--set", f"schema_registry.url={server.url}"]
    capsys.readouterr()
    assert main(["tail", lab.output, "--until-end", "--json", *settings]) == ExitCode.DONE
    shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["value"]["metadata"] for one in shown] == [{"lang": "en"}] * 2
    assert main(["save", lab.output, str(lab.folder / "saved"), *settings]) == ExitCode.DONE
    assert [json.loads(line)["id"] for line in (lab.folder / "saved").read_text().splitlines()] == ["0", "2"]
    assert main(["dlq", "list", "--id", "1", "--json", *settings]) == ExitCode.DONE
    assert len(capsys.readouterr().out.splitlines()) == 1
    with ResultLookUp(config.kafka, plain=Results(config).plain) as look_up:
        found = look_up.find(lab.output, 0, Source(lab.input, 0), [0, 2])
    assert [one.source.offset for one in found if isinstance(one, Result)] == [0, 2]
    named = NamedResults(config)
    ids, _ = asyncio.run(named.read(PIPELINE, 5))
    named.close()
    assert [(id_, place.offset) for id_, place in ids] == [("0", 0), ("2", 2)]
