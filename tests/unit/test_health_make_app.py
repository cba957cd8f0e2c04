"""The Faust app of `streamer health run`, as it is made from the configuration."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytest.importorskip("faust", reason="needs the extra health")

import aiokafka.client
from aiokafka.protocol.metadata import MetadataRequest_v5

from streamer.config.fields import KafkaConfig
from streamer.health.app import Work, make_app


async def _nothing(_: Any) -> None:
    """Takes anything."""


@pytest.mark.parametrize("listen", [None, ("0.0.0.0", 9470)])
def test_it_is_made_with_and_without_pages(listen: tuple[str, int] | None) -> None:
    async def made() -> Any:
        work = Work(takers={"reports": _nothing}, tick=_nothing, pages={})
        return make_app(KafkaConfig(bootstrap_servers="localhost:9092"), "health", {}, listen, work).conf

    found = asyncio.run(made())
    assert found.web_enabled == (listen is not None)
    if listen:
        assert (found.web_bind, found.web_port) == listen


def test_asking_for_a_topic_does_not_create_it() -> None:
    """One that is deleted while the app reads it would come back with partitions and retention that nobody chose."""
    assert aiokafka.client.MetadataRequest(["in"]).build(MetadataRequest_v5).encode().endswith(b"in\0")
