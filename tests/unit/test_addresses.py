"""Services of one configuration that would listen at the same place are named."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamer.config.load import load
from streamer.core.addresses import Endpoint, clashes
from streamer.ops.premises import remarks

HOSTS = ("127.0.0.1", "localhost", "0.0.0.0", "[::1]", "10.0.0.1")
SAME = {"127.0.0.1": "loopback", "localhost": "loopback"}

listeners = st.builds(Endpoint, st.just("a"), st.sampled_from(HOSTS), st.integers(1, 8), st.integers(1, 4))


@given(one=listeners, other=listeners)
def test_who_shares_an_address_clashes(one: Endpoint, other: Endpoint) -> None:
    """As a table of all addresses says, in either order."""
    shared = {*range(one.port, one.port + one.ports)} & {*range(other.port, other.port + other.ports)}
    hosts = {SAME.get(each.host, each.host) for each in (one, other)}
    found = [port for _, _, port in clashes([one, other])]
    assert found == ([min(shared)] if shared and (len(hosts) == 1 or "0.0.0.0" in hosts) else [])
    assert found == [port for _, _, port in clashes([other, one])]


def test_any_free_port_and_none_clash_with_nothing() -> None:
    for address in ("", "127.0.0.1:0"):
        assert Endpoint.of("a", address) is None
    assert Endpoint.of("a", "127.0.0.1:80", 0) is None


def told(*overrides: str) -> list[str]:
    """The remarks about addresses on a configuration with two pipelines."""
    both = [
        f"pipelines.{name}.{field}={value}"
        for name in ("one", "two")
        for field, value in {
            "task": "text-classification",
            "model": "builtin:null",
            "input": f"{name}.in",
            "output": f"{name}.out",
        }.items()
    ]
    config = load(None, {}, [*both, "telemetry.http=127.0.0.1:19464", *overrides])
    return [str(each) for each in remarks(config, {}) if each.where.endswith(".http") and "can run" in each.problem]


def test_config_check_names_both_fields() -> None:
    """Also where the second pipeline's port is meant, which follows from the first one's."""
    assert told() == []
    for port in (19464, 19465):
        (remark,) = told(f"health.http=127.0.0.1:{port}")
        assert remark.startswith(f"health.http: port {port} of 127.0.0.1:{port} is one of telemetry.http, too")
    assert told("health.http=127.0.0.1:19466") == []
