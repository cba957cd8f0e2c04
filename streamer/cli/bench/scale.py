"""`streamer bench scale`: what a rate of events needs, by what this machine was measured to do."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from streamer.cli.bench.shown import printed, progress
from streamer.cli.options import NumberRange

if TYPE_CHECKING:
    from streamer.bench.harness.figures import Figure, Section
    from streamer.bench.scale import Costs, EventSize, Needs

RATES = (1_000.0, 10_000.0, 100_000.0, 1_000_000.0)
_POSITIVE = NumberRange(0, min_open=True)


@click.command()
@click.option("--rate", "rates", type=_POSITIVE, multiple=True, help="Events a second to plan for; may be repeated.")
@click.option("--tokens", type=NumberRange(3), default=24, show_default=True, help="Tokens of a mean text.")
@click.option("--output-bytes", type=_POSITIVE, default=100, show_default=True, help="Bytes of a mean answer.")
@click.option(
    "--cached", type=NumberRange(0, 1), default=0, show_default=True, help="The share that the cache answers."
)
@click.option("--readers", type=click.IntRange(0), default=1, show_default=True, help="How many read each result.")
@click.option("--replication", type=click.IntRange(1), default=3, show_default=True, help="Copies of each partition.")
@click.option(
    "--load",
    type=NumberRange(0, 1, min_open=True),
    default=0.7,
    show_default=True,
    help="Plan for this share of what each unit can do.",
)
@click.option("--model", default="", metavar="REFERENCE", help="The encoder to measure. Default: MiniLM.")
@click.option("--device", default="auto", show_default=True, help="Where it runs: auto, cpu or cuda:N.")
@click.option("--member-records", type=_POSITIVE, help="Events a second of a member without a model; else measured.")
@click.option(
    "--member-settles", type=_POSITIVE, help="Transactions a second of a member under a backlog; else measured."
)
@click.option("--worker-tokens", type=_POSITIVE, help="Tokens a second of a worker; else measured.")
@click.option("--workers", type=click.IntRange(1), help="Workers of a machine. Default: as many as `run` starts here.")
@click.option("--broker-transactions", type=_POSITIVE, help="Transactions a second of a broker; else measured.")
@click.option("--redis-keys", type=_POSITIVE, help="Keys a second of a Redis; else measured.")
@click.option(
    "--partition-mb", type=_POSITIVE, default=10, show_default=True, help="MB a second that one partition takes."
)
@click.option("--broker-mb", type=_POSITIVE, default=100, show_default=True, help="MB a second in or out of a broker.")
@click.option("--bootstrap-servers", default="", metavar="HOST:PORT", help="Use this Kafka. Default: start one.")
@click.option("--redis", "redis_url", default="", metavar="URL", help="Use this Redis. Default: start one.")
@printed
def scale(
    rates: tuple[float, ...],
    tokens: float,
    output_bytes: float,
    cached: float,
    readers: int,
    replication: int,
    load: float,
    model: str,
    device: str,
    member_records: float | None,
    member_settles: float | None,
    worker_tokens: float | None,
    workers: int | None,
    broker_transactions: float | None,
    redis_keys: float | None,
    partition_mb: float,
    broker_mb: float,
    bootstrap_servers: str,
    redis_url: str,
) -> list[Section]:
    """Say how many members, workers, partitions, brokers and Redis servers each rate of events needs, and why.

    It measures for under a minute what one of each does here. What you give by an option is not measured: with all of
    them, nothing is started. On real brokers give --broker-mb and --broker-transactions as they were measured there.
    """
    from streamer.bench.scale import Costs, EventSize, plan

    given = Costs(
        member_records or 0,
        worker_tokens or 0,
        workers or 0,
        member_settles or 0,
        broker_transactions or 0,
        redis_keys or 0,
        partition_mb * 1e6,
        broker_mb * 1e6,
    )
    source = click.get_current_context().get_parameter_source
    assumed = {
        name.replace("_mb", "_bytes")
        for name in ("partition_mb", "broker_mb")
        if source(name) is ParameterSource.DEFAULT
    }
    costs = given
    if not all(dataclasses.astuple(given)):
        from streamer.bench.scale_costs import measured

        costs = measured(given, tokens, model, device, bootstrap_servers, redis_url, progress)
    size = EventSize(tokens, output_bytes, cached, readers)
    plans = [plan(rate, size, costs, replication, load) for rate in rates or RATES]
    return sections(plans, size, costs, given, replication, load, assumed)


def sections(
    plans: Sequence[Needs],
    size: EventSize,
    costs: Costs,
    given: Costs,
    replication: int,
    load: float,
    assumed: Collection[str] = (),
) -> list[Section]:
    """What one of each does, and what each rate needs. Those `assumed` are defaults, which nobody gave or measured."""
    from streamer.bench.harness.figures import Figure, Section
    from streamer.bench.scale import one_does

    does = [
        Figure(
            name.replace("_", " "),
            getattr(costs, name),
            unit,
            columns={"how": "default" if name in assumed else "given" if getattr(given, name) else "measured"},
        )
        for name, unit in _UNITS.items()
    ]
    most = one_does(size, costs, replication)
    notes = [
        f"one of each settles at most, in events/s: {', '.join(f'{unit} {rate:,.0f}' for unit, rate in most.items())}",
        f"the first that is too small is the {min(most, key=most.__getitem__)}; each is planned for {load:.0%} of what"
        " it does",
        *(f"at {each.rate:,.0f} events/s {each.beyond}" for each in plans if each.beyond),
        *(["a default is not a measurement: give what your brokers do with its option"] if assumed else []),
        "docs/scale.md says what the columns mean, and where Kafka itself ends",
    ]
    return [
        Section("What one of each does", does),
        Section("What each rate needs", [_needs(each) for each in plans], notes),
        Section("What flows then, a second", [_flows(each) for each in plans]),
    ]


_UNITS = {
    "member_records": "events/s",
    "member_settles": "transactions/s",
    "worker_tokens": "tokens/s",
    "workers": "a machine",
    "broker_transactions": "transactions/s",
    "redis_keys": "keys/s",
    "partition_bytes": "bytes/s",
    "broker_bytes": "bytes/s",
}


def _needs(plan: Needs) -> Figure:
    from streamer.bench.harness.figures import Figure

    columns: dict[str, Any] = {
        "for": plan.because["members"],
        "workers": plan.workers,
        "machines": plan.machines,
        "partitions": plan.partitions,
        "brokers": plan.brokers,
        "for their": plan.because["brokers"],
        "Redis": plan.redis,
    }
    return Figure(f"{plan.rate:,.0f} events/s", plan.members, "members", columns=columns)


def _flows(plan: Needs) -> Figure:
    from streamer.bench.harness.figures import Figure

    columns: dict[str, Any] = {
        "MB into the brokers": plan.bytes_in / 1e6,
        "MB out of them": plan.bytes_out / 1e6,
        "Redis keys": round(plan.redis_keys),
        "transactions, at least": round(plan.transactions),
    }
    return Figure(f"{plan.rate:,.0f} events/s", plan.tokens, "tokens", columns=columns)
