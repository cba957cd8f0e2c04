"""An archive of the classes that a broker loads (class data sharing), so that its JVM need not parse them each time.

https://docs.oracle.com/en/java/javase/17/vm/class-data-sharing.html
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from streamer.local.kafka import prepare_brokers
from streamer.local.lock import file_lock
from streamer.local.ports import free_ports
from streamer.local.process import Watchdog
from streamer.local.runtime import Runtime


def ensure_class_archive(runtime: Runtime) -> None:
    """Make the class archive of `runtime` in the cache, unless it is there: let a broker start and stop once.

    It costs some 7 s once, and then saves half of every start.
    """
    archive = runtime.class_archive
    if archive.exists():
        return
    with file_lock(archive.with_suffix(".lock")):
        if not archive.exists():
            _record_classes(runtime, archive)


def _record_classes(runtime: Runtime, archive: Path) -> None:
    watchdog = Watchdog()
    try:
        with tempfile.TemporaryDirectory(prefix="classes-", dir=archive.parent) as folder:
            watchdog.remove(Path(folder))
            record = Path(folder) / archive.name
            broker_port, controller_port = free_ports(2)
            (broker,) = prepare_brokers(
                replace(runtime, record=record),
                Path(folder),
                [broker_port],
                [controller_port],
                {},
                watchdog,
            )
            broker.launch()
            try:
                broker.wait_ready()
            finally:
                broker.stop()
            # The rename makes the archive appear whole or not at all.
            if record.exists():  # not if the broker had to be killed: then the next start tries again
                record.rename(archive)
    finally:
        watchdog.close()
