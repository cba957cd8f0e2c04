"""`python -m streamer`, and the program `streamer`."""

from __future__ import annotations

import os
import signal
import sys


def main() -> int:
    """Run one command and return its exit code."""
    if os.getpid() == 1:  # in a container: the kernel drops signals that its first process has no handler for
        signal.signal(signal.SIGTERM, lambda number, _: os._exit(128 + number))
    from streamer.cli import main as run_command

    return run_command()


if __name__ == "__main__":
    sys.exit(main())
