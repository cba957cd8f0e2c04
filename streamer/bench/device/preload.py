"""Imported once by the process that steps are forked from: what most of them need. It touches no device."""

from __future__ import annotations

import contextlib
from importlib import import_module

with contextlib.suppress(Exception):  # what can't be imported is named by the steps that need it
    from streamer.inference.tasks.families import TASKS, import_family

    for _task in TASKS:
        import_family(_task)
    for _name in (
        "transformers.models.bert.modeling_bert",
        "transformers.models.llama.modeling_llama",
        "streamer.bench.device.answers",
        "streamer.bench.device.memory",
    ):
        import_module(_name)
