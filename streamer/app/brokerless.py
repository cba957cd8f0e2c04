"""A pipeline without brokers: the driver, core and workers of `streamer run`, between a source and a sink of ours."""

from __future__ import annotations

import dataclasses
from queue import SimpleQueue

from streamer.app.driver import CLOSE_S, Adapters, Driver
from streamer.app.parts import make_cache, policy_of
from streamer.config.load import Config
from streamer.core.events.codec import Codec
from streamer.core.pipeline.pipeline import Pipeline
from streamer.core.pipeline.protocol import Input
from streamer.inference.parent.pool import WorkerPool
from streamer.inference.spec import WorkerSpec
from streamer.inference.worker.in_process import InProcessWorkers, WorkingInbox
from streamer.ports import Sink, Source, Workers


def make_inbox(here: InProcessWorkers | None) -> SimpleQueue[Input]:
    """What source and sink post to; its reader does the work of a model that is `here`."""
    return SimpleQueue() if here is None else WorkingInbox(here.work)


def brokerless(
    config: Config,
    name: str,
    codec: Codec,
    plan: tuple[int, WorkerSpec],
    inbox: SimpleQueue[Input],
    source: Source,
    sink: Sink,
    *,
    here: InProcessWorkers | None = None,
    close_s: float = CLOSE_S,
) -> Driver:
    """The driver of the pipeline `name`, with the workers of `worker_plan`, or with the model that is `here`."""
    count, spec = plan
    policy, cache = policy_of(config, name, count), make_cache(config, name, inbox.put)
    workers: Workers
    if here is None:
        workers = WorkerPool(spec, count, inbox.put)
    else:
        workers = here
        here.attach(inbox.put)
        # What runs here can't be killed, and somebody may have stopped it in a debugger.
        policy = dataclasses.replace(policy, workers=1, lease_s=float("inf"), load_s=float("inf"))
    return Driver(Pipeline(policy, codec), inbox, Adapters(source, sink, workers, cache), close_s=close_s)
