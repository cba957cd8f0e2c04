"""`streamer bench scale`: what a rate needs follows from what one of each does, and each bound can be the first."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

from streamer.bench.scale import Costs, EventSize, one_does, plan
from streamer.cli.bench.scale import RATES, scale

COSTS = Costs(
    member_records=80_000,
    worker_tokens=8_000,
    workers=4,
    member_settles=10,
    broker_transactions=500,
    redis_keys=200_000,
)
WORK = EventSize(tokens=20, output_bytes=100)  # 200 bytes an event, 500 a result


def test_a_small_rate_needs_one_of_each_and_the_copies() -> None:
    found = plan(10, WORK, COSTS)
    assert (found.members, found.machines, found.workers, found.partitions, found.redis) == (1, 1, 1, 1, 1)
    assert found.brokers == 3
    assert found.because == {"members": "the model", "brokers": "copies"}
    assert plan(10, WORK, COSTS, replication=1).brokers == 1


def test_figures_by_hand() -> None:
    """100,000 events/s of 20 tokens at half load: 2 M tokens/s are 500 workers on 125 machines."""
    found = plan(100_000, WORK, COSTS, load=0.5)
    assert (found.tokens, found.workers, found.machines, found.members) == (2_000_000, 500, 125, 125)
    assert found.partitions == 125
    assert found.bytes_in == 100_000 * 700 * 3
    assert found.bytes_out == 100_000 * (700 * 2 + 200 + 500)
    assert found.redis_keys == 200_000
    assert found.redis == 2
    assert found.transactions == 1250
    assert found.brokers == 5  # 210 MB/s at 50 MB/s each, and 1,250 transactions at 250
    assert found.beyond == ""


@pytest.mark.parametrize(
    ("costs", "size", "members", "brokers"),
    [
        (replace(COSTS, worker_tokens=1e9), WORK, "the driver", "bytes"),
        (COSTS, EventSize(tokens=20, cached=1), "the driver", "bytes"),
        (COSTS, WORK, "the model", "transactions"),
        (
            replace(COSTS, worker_tokens=1e3, broker_transactions=1e9, broker_bytes=1e12),
            WORK,
            "the model",
            "partitions",
        ),
    ],
)
def test_each_bound_can_decide(costs: Costs, size: EventSize, members: str, brokers: str) -> None:
    assert plan(1_000_000, size, replace(costs, member_settles=20)).because == {"members": members, "brokers": brokers}


def test_what_one_cluster_does_not_hold_is_said() -> None:
    """25,000 machines of a slow model want as many partitions."""
    found = plan(1_000_000, WORK, replace(COSTS, worker_tokens=200))
    assert found.partitions > 25_000
    assert "divide the events" in found.beyond


def test_partitions_are_shared_evenly_and_carry_the_bytes() -> None:
    found = plan(100_000, WORK, replace(COSTS, worker_tokens=1e9, partition_bytes=1e6), load=1.0)
    assert found.members == 2
    assert found.partitions == 50
    assert plan(100_000, WORK, replace(COSTS, worker_tokens=1e9, partition_bytes=1e6), load=0.33).partitions % 4 == 0


def test_a_rate_that_one_unit_does_needs_one_of_it() -> None:
    """`one_does` and `plan` agree, for each unit; a little more needs two."""
    does = one_does(WORK, COSTS)
    for unit, field in (("member", "members"), ("machine", "machines"), ("Redis", "redis")):
        costs = COSTS if unit == "machine" else replace(COSTS, worker_tokens=1e12)
        assert getattr(plan(does[unit], WORK, costs, load=1.0), field) == 1, unit
        assert getattr(plan(does[unit] * 1.01, WORK, costs, load=1.0), field) == 2, unit
    costs = replace(COSTS, worker_tokens=1e12, member_records=1e12, member_settles=1e-9)
    assert plan(does["broker"], WORK, costs, replication=1, load=1.0).brokers >= 1
    assert plan(does["partition"], WORK, costs, load=1.0).partitions == 1
    assert plan(does["partition"] * 1.01, WORK, costs, load=1.0).partitions == 2


def test_without_a_redis_none_is_planned() -> None:
    assert plan(1000, WORK, replace(COSTS, redis_keys=0)).redis == 0
    assert "Redis" not in one_does(WORK, replace(COSTS, redis_keys=0))


GIVEN = (
    *("--partition-mb", "10", "--broker-mb", "100"),
    *("--member-records", "80000", "--member-settles", "10", "--worker-tokens", "8000", "--workers", "4"),
    *("--broker-transactions", "500", "--redis-keys", "200000"),
)


def test_the_command_measures_nothing_that_is_given() -> None:
    """Nothing is started, and the table has a row for each rate."""
    ran = CliRunner().invoke(scale, [*GIVEN, "--json"])
    assert ran.exit_code == 0, ran.output
    one, each, flows = json.loads(ran.stdout)["sections"]
    assert {figure["how"] for figure in one["figures"]} == {"given"}
    assert [figure["name"] for figure in each["figures"]] == [f"{rate:,.0f} events/s" for rate in RATES]
    assert each["figures"][2]["value"] == plan(100_000, EventSize(), COSTS).members
    assert "machine" in each["notes"][1]
    assert flows["figures"][0]["value"] == RATES[0] * EventSize().tokens
    table = CliRunner().invoke(scale, [*GIVEN, "--rate", "5000"]).stdout
    assert "5,000 events/s" in table
    assert "verdict" not in table


def test_what_nobody_gave_or_measured_is_a_default() -> None:
    """What a partition and a broker take is not measured: unless it is given, it is named as what it is."""
    ran = CliRunner().invoke(scale, [*GIVEN[2:], "--json"])
    one, each, _ = json.loads(ran.stdout)["sections"]
    hows = {figure["name"]: figure["how"] for figure in one["figures"]}
    assert (hows.pop("partition bytes"), set(hows.values())) == ("default", {"given"})
    assert any("a default is not a measurement" in note for note in each["notes"])
