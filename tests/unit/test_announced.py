"""Addresses that brokers announce and nobody answers at."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from streamer.errors import DependencyError
from streamer.kafka.announced import learn, silent
from streamer.kafka.errors import answer, start_error


@pytest.fixture
def open_port() -> Iterator[str]:
    """An address where somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture
def closed_port() -> str:
    """One where nobody does."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return f"127.0.0.1:{listening.getsockname()[1]}"


def cluster(*addresses: str) -> Any:
    """Metadata with brokers there."""
    pairs = [address.rsplit(":", 1) for address in addresses]
    return SimpleNamespace(brokers={n: SimpleNamespace(host=host, port=port) for n, (host, port) in enumerate(pairs)})


def test_a_request_that_timed_out_blames_the_address_in_whose_name_it_did(open_port: str, closed_port: str) -> None:
    """One broker of two, once the cluster was asked; where nobody answers at all, the bootstrap address is at fault."""
    timed_out = KafkaError(KafkaError._TIMED_OUT)
    assert closed_port not in str(start_error(timed_out, address=open_port))
    assert learn(open_port, cluster(open_port, closed_port))
    told = start_error(timed_out, address=open_port)
    assert isinstance(told, DependencyError)
    assert f"brokers are at {closed_port}, where nobody answers" in str(told)
    assert not learn(open_port, cluster(closed_port))
    assert not learn(closed_port, cluster(closed_port))
    assert "correct kafka.bootstrap_servers" in str(start_error(timed_out, address=closed_port))


def test_names_that_are_none_are_silent(open_port: str) -> None:
    """As those of containers are outside of their network."""
    assert silent(["no-such-host.invalid:9092", open_port, "x:none"]) == ("no-such-host.invalid:9092", "x:none")


def test_a_request_that_is_not_answered_in_time_is_an_error_of_kafka() -> None:
    """Whichever time limit is over first, the client's or ours."""
    with pytest.raises(KafkaException) as raised:
        answer(Future(), 0.01)
    assert raised.value.args[0].code() == KafkaError._TIMED_OUT
