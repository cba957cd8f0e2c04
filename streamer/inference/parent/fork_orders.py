"""What a driver and its fork server tell one another, a datagram each. An order to fork brings the worker's socket."""

from __future__ import annotations

import os
import signal
import struct
from contextlib import suppress
from enum import IntEnum
from typing import Final

ORDER: Final = struct.Struct("=BI")  # kind, number of the fork
NOTICE: Final = struct.Struct("=BIi")  # kind, number of the fork, value


class Order(IntEnum):
    """What the driver asks for."""

    FORK = 0
    KILL = 1


class Notice(IntEnum):
    """What the fork server tells."""

    FORKED = 0
    """The value is the process id."""
    REFUSED = 1
    """The value is the errno of fork."""
    ENDED = 2
    """The value is the exit code, below 0 the number of the signal."""
    UNFIT = 3
    """A device's driver was started here and would not survive a fork: spawn workers instead. This process ends."""


def end_group(leader: int) -> None:
    """Kill what a worker has left behind: processes that its model started. To be called before the worker's own number
    can be another's."""
    with suppress(OSError):
        os.killpg(leader, signal.SIGKILL)
