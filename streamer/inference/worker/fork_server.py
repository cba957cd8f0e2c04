"""A process that has imported all that a family needs, has computed nothing, and forks workers from itself.

Importing torch and transformers takes seconds and hundreds of megabytes at each start of a worker; here it is done once
for all of a driver's workers, whose pages are then shared. Started by `launch.ForkServer` as
`python -m streamer.inference.worker.fork_server FD PARENT TASK`. It has one thread, touches no device and ends with its
driver; its workers end with it. Linux only.
"""

from __future__ import annotations

import gc
import os
import selectors
import signal
import socket
import sys
import warnings
from contextlib import suppress
from typing import Final, NoReturn

from streamer.errors import ExitCode
from streamer.inference.parent.fork_orders import NOTICE, ORDER, Notice, Order, end_group
from streamer.inference.tasks.families import import_family
from streamer.inference.worker.worker import die_with, print_to_log, work
from streamer.machine.kernel import name_process

NAME: Final = "streamer-forks"


class _Server:
    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._selector = selectors.DefaultSelector()
        self._selector.register(control, selectors.EVENT_READ)
        self._children: dict[int, tuple[int, int]] = {}  # by number: process id, and the descriptor that tells its end

    def run(self) -> None:
        """Until the driver is gone."""
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is not self._control:
                    self._bury(key.data)
                    continue
                order, sockets, _, _ = socket.recv_fds(self._control, ORDER.size, 1)
                if not order:
                    return
                kind, number = ORDER.unpack(order)
                if kind == Order.FORK:
                    self._fork(number, sockets[0])
                elif number in self._children:  # not waited for yet, so the number is still its own
                    os.kill(self._children[number][0], signal.SIGKILL)

    def _fork(self, number: int, theirs: int) -> None:
        parent = os.getpid()
        try:
            with warnings.catch_warnings():
                # Python 3.12 counts the threads that numpy's OpenBLAS keeps, which stops them for a fork by itself.
                warnings.simplefilter("ignore", DeprecationWarning)
                child = os.fork()
        except OSError as error:
            os.close(theirs)
            self._tell(Notice.REFUSED, number, error.errno or 0)
            return
        if child == 0:
            try:
                self._leave()
                work(socket.socket(fileno=theirs), parent)
            finally:
                os._exit(ExitCode.BUG)
        os.close(theirs)
        ending = os.pidfd_open(child)
        self._children[number] = (child, ending)
        self._selector.register(ending, selectors.EVENT_READ, number)
        self._tell(Notice.FORKED, number, child)

    def _leave(self) -> None:
        """Close in a child what is its parent's."""
        self._selector.close()
        self._control.close()
        for _, ending in self._children.values():
            os.close(ending)

    def _bury(self, number: int) -> None:
        child, ending = self._children.pop(number)
        self._selector.unregister(ending)
        os.close(ending)
        end_group(child)
        _, status = os.waitpid(child, 0)
        self._tell(Notice.ENDED, number, os.waitstatus_to_exitcode(status))

    def _tell(self, notice: Notice, number: int, value: int) -> None:
        with suppress(OSError):  # the driver is gone, which the next select finds
            self._control.send(NOTICE.pack(notice, number, value))


def _fit() -> bool:
    """Whether a child could still use every device. To ask for GPUs starts their driver, which is why this comes last
    and a GPU that is found ends the server."""
    import torch

    return not torch.accelerator.is_available()


def main() -> NoReturn:
    """Import, then serve. A failure to import is left to the worker, which says it in the operator's words."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    die_with(int(sys.argv[2]))
    name_process(NAME)
    print_to_log()
    control = socket.socket(fileno=int(sys.argv[1]))
    fit = True
    gc.disable()  # what is imported is no garbage
    with suppress(Exception):
        import_family(sys.argv[3])
        fit = _fit()
    gc.enable()
    if fit:
        gc.collect()
        gc.freeze()  # or the first collection in each worker would write to every page and make it the worker's own
        _Server(control).run()
    else:
        control.send(NOTICE.pack(Notice.UNFIT, 0, 0))
    os._exit(ExitCode.DONE)


if __name__ == "__main__":
    main()
