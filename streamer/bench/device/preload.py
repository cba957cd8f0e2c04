"""Imported once by the process that steps are forked from: what most of them need. It touches no device."""

from __future__ import annotations

import contextlib
import logging

with contextlib.suppress(Exception):  # what can't be imported is named by the steps that need it
    from streamer.inference.tasks.families import TASKS, import_family

    for _task in TASKS:
        import_family(_task)


logging.getLogger("ContinuousBatchingLogger").setLevel(logging.WARNING)
