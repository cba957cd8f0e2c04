"""`python -m streamer`, and the program `streamer`."""

from __future__ import annotations

import os
import signal
import sys


def main() -> int:
    """Run one command and return its exit code."""
    _keep_streams()
    if os.getpid() == 1:  # in a container: the kernel drops signals that its first process has no handler for
        signal.signal(signal.SIGTERM, lambda number, _: os._exit(128 + number))
    from streamer.cli import main as run_command

    return run_command()


def _keep_streams() -> None:
    """What we were started without (`>&-`) goes to the null device. Else the next socket would get its number, and what
    a model prints would go to a broker."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is not None:
            continue
        # The lowest free number is taken, and the lower ones are open by now.
        opened = os.open(os.devnull, os.O_RDWR)
        if opened != number:
            os.dup2(opened, number)
            os.close(opened)
        os.set_inheritable(number, True)
        stream = os.fdopen(number, "r" if number == 0 else "w", encoding="utf-8", closefd=False)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


if __name__ == "__main__":
    sys.exit(main())
