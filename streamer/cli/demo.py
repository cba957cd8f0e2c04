"""`streamer demo`: everything at once, on this machine, to watch."""

from __future__ import annotations

import logging
import signal
import time
from types import FrameType

import click

from streamer import demo as demo_data
from streamer.errors import ExitCode
from streamer.extras import require

EVENTS = sum(1 for _ in demo_data.events())


@click.command()
@click.option(
    "--events", type=click.IntRange(30, EVENTS), default=EVENTS, show_default=True, help="How many tweets to send."
)
@click.option("--keep", is_flag=True, help="Leave Kafka, Redis and the topics running, and say what to try with them.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def demo(events: int, keep: bool, as_json: bool) -> ExitCode:
    """Start Kafka and Redis, run two models over real tweets and a dozen poison records, and check what comes out.

    The first records measure how much both pipelines can take. Live traffic at half of that shows their latency, and
    all the rest at once their throughput. The last fifth is another mix of tweets, which the monitors of model health
    are to notice; they need some 300 of them. It ends by itself and leaves nothing behind. Exits 0 only if nothing was
    lost, nothing came twice, and every poison record ended as it should.
    """
    require("the demo", "inference", "demo")
    from streamer.cli.records import Kind, show
    from streamer.demo.display import Display
    from streamer.demo.script import script
    from streamer.demo.stage import stage
    from streamer.demo.summarise import summarise
    from streamer.demo.watch import Watch

    interrupts = _Interrupts()
    logging.basicConfig(level=logging.ERROR)  # the Kafka client's word on a broker that is just starting helps nobody
    display = Display()
    started = time.monotonic()
    seconds: dict[str, float] = {}

    def lap(name: str) -> None:
        nonlocal started
        seconds[name] = round(time.monotonic() - started, 1)
        started = time.monotonic()

    plan = script(events)
    with display, stage(keep, display.step, display.note) as place:
        lap("stack")
        display.step("Starting both pipelines: each loads its model")
        with place.run() as run, Watch(place.config, plan) as watch:

            def check() -> None:
                interrupts.check()
                run.check()
                display.update()

            watch.wait_ready(check)
            lap("pipelines")
            display.follow(watch)
            watch.measure(check)
            lap("measuring")
            watch.play_live(check)
            lap("live")
            watch.play_burst(check)
            lap("burst")
            watch.play_shift(check)
            lap("other mix")
            display.step("Stopping, and reading what else there is")
            exit_code = run.stop()
            watch.finish()
        lap("stop")
        telemetry = place.config.telemetry
        spans = [shown.machine for record in watch.span_records for shown in show(record, Kind.SPAN, telemetry)]
        summary = summarise(watch, spans, exit_code, seconds)
        display.end_step()
        path = place.path if keep else None
    display.print(summary, path, as_json=as_json)
    return ExitCode.DONE if summary.ok else ExitCode.BUG


class _Interrupts:
    """Ctrl-C, and SIGTERM as if it were that. Each is also remembered: where it hits in the middle of a fork, Python
    drops the exception."""

    def __init__(self) -> None:
        self._came = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self)

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        self._came = True
        raise KeyboardInterrupt

    def check(self) -> None:
        """Raise KeyboardInterrupt if one came."""
        if self._came:
            raise KeyboardInterrupt
