"""Rules about labels: what feedback says of a pipeline's revisions, as the number that a rule measures."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import NormalDist

from streamer.core.health.alerts.drifts import Told
from streamer.core.health.alerts.rules import GAP, Measured, Rule
from streamer.core.health.drift.estimate import Gap, gap_of
from streamer.core.health.drift.finding import alpha_of
from streamer.core.health.drift.watch import CLEARS_AT
from streamer.core.health.quality.calibration import Calibration
from streamer.core.health.quality.quality import Quality
from streamer.core.health.windows.fold import HOUR_MS
from streamer.core.tally import duration, plural


def rated(
    rule: Rule,
    pipeline: str,
    sums: Mapping[str, Quality],
    calibrations: Mapping[str, Calibration],
    monthly: float,
    *,
    firing: bool,
) -> Told:
    """What a rule measures of the labels of a pipeline's revisions: the worst of those that have enough labels.
    `monthly` is how many false alarms a month the pipeline may raise, `firing` whether the rule fires already."""
    most = max((quality.answered for quality in sums.values()), default=0)
    enough = {revision: quality for revision, quality in sums.items() if quality.answered >= rule.at_least}
    if not enough:
        text = f"{plural(most, 'label')} of results of the last {duration(rule.over_s)}"
        return Told(Measured(None, most), f"{pipeline}: {text}, and it takes {rule.at_least:,} to judge {rule.name}")
    if rule.metric == GAP:
        return _gap(rule, pipeline, enough, calibrations, monthly, firing)
    found = [
        (value, quality.answered)
        for quality in enough.values()
        if (value := quality.metrics().get(rule.metric)) is not None
    ]
    if not found:
        return Told(Measured(None, most), f"{pipeline}: its labels give no {rule.metric}")
    value, labels = min(found) if rule.falls else max(found)
    return Told(Measured(value, labels), "")


def _gap(
    rule: Rule,
    pipeline: str,
    sums: Mapping[str, Quality],
    calibrations: Mapping[str, Calibration],
    monthly: float,
    firing: bool,
) -> Told:
    labels = max(quality.answered for quality in sums.values())
    known = [(sums[revision], calibrations[revision]) for revision in sums if revision in calibrations]
    if not known:
        text = f"streamer health baseline calibrate {pipeline} with what streamer evaluate --save-baseline has written"
        return Told(Measured(None, labels), f"{pipeline}: how right its confidence is was not measured; {text}")
    gaps = [
        gap
        for quality, calibration in known
        if quality.confusion is not None and quality.calibration is not None
        if (gap := gap_of(quality.calibration, calibration)) is not None and gap.labels >= rule.at_least
    ]
    if not gaps:
        return Told(Measured(None, labels), f"{pipeline}: from its labels and their confidence no accuracy is expected")
    # Labels of a day are in effect looked at again each hour: that many looks share the budget.
    certain = -NormalDist().inv_cdf(alpha_of(monthly, 1, HOUR_MS)) * (CLEARS_AT if firing else 1.0)
    limit = rule.recover if firing else rule.threshold
    worst = max(gaps, key=lambda gap: (gap.size >= limit and gap.deviations >= certain, gap.size))
    sure = worst.size < limit or worst.deviations >= certain
    return Told(Measured(worst.size if sure else None, worst.labels), f"{pipeline}: {_sentence(worst, sure)}")


def _sentence(gap: Gap, sure: bool) -> str:
    tail = "" if sure else ", too few labels to be sure of it"
    return (
        f"{gap.realised:.1%} of {gap.labels:,} labelled answers are right, where their confidence lets one expect"
        f" {gap.expected:.1%}{tail}"
    )
