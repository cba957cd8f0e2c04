"""A topic that is deleted while the health app watches it is named, with what to do."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from unittest.mock import Mock
from uuid import uuid4

import pytest

pytest.importorskip("faust", reason="needs the extra health")

from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from streamer.config.load import load
from streamer.health.host import Host
from streamer.kafka.topics import connect
from tests.acceptance.harness import wait_for
from tests.conftest import Kafka


def test_a_deleted_topic_is_named(
    kafka: Kafka, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the log once, and on /readyz until it is there again. One that was never there is not missed. One client looks
    all the time."""
    clients = Mock(wraps=connect)
    monkeypatch.setattr("streamer.health.watched.connect", clients)
    name = f"gone-{uuid4().hex}"
    out, never, reports = f"{name}.out", f"{name}.never", f"{name}.reports"
    settings = [f"kafka.bootstrap_servers={kafka.bootstrap_servers}", f"telemetry.reports={reports}"]
    settings += [f"health.topic={name}", f"health.feedback={name}.feedback", "telemetry.http=", "health.http="]
    for pipeline, output in (("mood", out), ("other", never)):
        fields = {"task": "text-classification", "model": "builtin:null", "input": f"{name}.in", "output": output}
        settings += [f"pipelines.{pipeline}.{field}={value}" for field, value in fields.items()]
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    topics = [name, f"{name}.in", f"{name}.feedback", reports, out]
    for future in admin.create_topics([NewTopic(topic, 1) for topic in topics]).values():
        future.result()
    host = Host(load(None, {}, settings))

    def ready() -> list[str]:
        asyncio.run(host._ask())
        page = host._work(lambda: None).pages["/readyz"]({})  # type: ignore[arg-type,return-value]
        assert page.status == 503  # nothing is summed here
        found: list[str] = json.loads(page.body)["reasons"][1:]
        return found

    with caplog.at_level(logging.ERROR, "streamer.health.host"):
        assert ready() == []
        for future in admin.delete_topics([out, reports]).values():
            future.result()
        told = wait_for(lambda: found if len(found := ready()) == 2 else None, "both topics")
        ready()
    assert told[0].startswith(f"telemetry.reports: the topic {reports} was deleted; recreate it with `streamer topics")
    assert told[1].startswith(f"pipelines.mood.output: the topic {out} was deleted; recreate it")
    assert sorted(record.words for record in caplog.records) == sorted(told)  # type: ignore[attr-defined]
    for future in admin.create_topics([NewTopic(topic, 1) for topic in (out, reports)]).values():
        future.result()
    wait_for(lambda: not ready(), "all is well again")
    assert clients.call_count == 1
    for future in admin.delete_topics(topics).values():
        future.result()
