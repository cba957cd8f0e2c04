"""A topic in Avro on a real cluster: records wait while the registry is away, and bad ones keep their bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from streamer.core.standing import Reason
from tests.acceptance.harness import Given, Lab, wait_for
from tests.conftest import Kafka
from tests.integration.in_process import running
from tests.schema_registry import SchemaServer, avro, schema_server

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
