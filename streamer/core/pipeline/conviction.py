"""When a text that ends its worker, alone and more than once, is at fault."""

from __future__ import annotations

import signal
from typing import Final

from streamer.core.pipeline.flights import Flight
from streamer.core.pipeline.protocol import WorkerLost
from streamer.errors import Code, DataFailure

CONVICT_KILLS: Final = 2
CONVICT_SIGKILLS: Final = 3
CONVICT_SPOILS: Final = 3


def judge(flight: Flight, fact: WorkerLost) -> DataFailure | None:
    """Note that this computation, alone, ended a worker whose probe had passed; the verdict once that is enough. A hang
    is our own SIGKILL, so it counts as a full death. The kinds do not add up."""
    if fact.failure is not None:
        flight.spoils += 1
    elif fact.signal == signal.SIGKILL and not fact.hung:
        flight.sigkills += 1
    else:
        flight.kills += 1
    enough = flight.kills >= CONVICT_KILLS or flight.sigkills >= CONVICT_SIGKILLS or flight.spoils >= CONVICT_SPOILS
    if not enough:
        return None
    attempts = flight.kills + flight.sigkills + flight.spoils
    if fact.hung:
        return DataFailure(
            Code.INFER_WORKER_HUNG,
            f"the computation of this text alone did not end within lease_s, on {attempts} fresh workers",
            attempts=attempts,
        )
    if fact.failure is not None:
        message = f"this text alone spoiled {attempts} fresh workers, the last one so: {fact.message}"
        return DataFailure(Code.INFER_WORKER_KILLED, message, attempts=attempts)
    name = signal.Signals(fact.signal).name if fact.signal else "exit"
    return DataFailure(
        Code.INFER_WORKER_KILLED,
        f"the computation of this text alone ended the worker process ({name}), on {attempts} fresh workers",
        attempts=attempts,
    )
