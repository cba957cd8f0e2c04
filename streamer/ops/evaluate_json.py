"""An evaluation for machines."""

from __future__ import annotations

from typing import Any

import msgspec

from streamer.core.health.evaluation.evaluation import Evaluation, Versus
from streamer.core.health.evaluation.headline import headline, remarks


def described(found: Evaluation) -> dict[str, Any]:
    """For machines: the sentence, the numbers, and the sums that they follow from."""
    calibration = found.quality.calibration
    return {
        "headline": headline(found),
        "remarks": remarks(found),
        "metrics": found.quality.metrics(),
        "reliability": calibration.table() if calibration is not None else None,
        **sums(found),
        "worst": found.worst,
    }


def sums(found: Evaluation) -> dict[str, Any]:
    """The sums alone, without a text."""
    quality = {name: own for name, own in msgspec.to_builtins(found.quality).items() if own is not None}
    if "regression" in quality:
        quality["regression"]["sample"] = []
    return {
        "version": "streamer.evaluation.v1",
        "model": found.model,
        "revision": found.revision,
        "task": found.task,
        "unlabelled": found.unlabelled,
        "quality": quality,
        "value": found.value,
        "by_length": found.by_length.groups,
        "by_field": found.by_field.groups if found.by_field is not None else None,
    }


def compared(versus: Versus) -> dict[str, Any]:
    """The second model's evaluation, and what is certain of the difference."""
    told = {name: getattr(versus, name) for name in versus.__struct_fields__ if name != "second"}
    return {**told, "evaluation": described(versus.second)}
