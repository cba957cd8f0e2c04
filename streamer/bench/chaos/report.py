"""The result of a chaos run as tables."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from streamer.bench.chaos.chaos import ChaosRun
from streamer.bench.chaos.checker import KINDS, MEANINGS
from streamer.bench.chaos.faults import AWAY, DEADLY, FAULTS, RESTARTED
from streamer.bench.chaos.member_faults import THAWED
from streamer.bench.chaos.members import FOR_GOOD
from streamer.bench.chaos.scene import SESSION_S, Incident
from streamer.bench.harness.figures import Figure, Section, Target

EXAMPLES = 5
RESTART_WITHIN_S = 1.0
TAKEN_OVER_WITHIN_S = SESSION_S + 3
DEATHS = 3


def sections(result: ChaosRun) -> list[Section]:
    """Faults with their recoveries, then anomalies."""
    return [_recoveries(result), _anomalies(result)]


def _recoveries(result: ChaosRun) -> Section:
    within = {fault.kind: fault.within_s for fault in FAULTS}
    figures = []
    for kind in (*within, THAWED):
        incidents = [each for each in result.incidents if each.kind == kind]
        if not incidents:
            continue
        beyond = result.load_s if kind == RESTARTED else 0.0
        bound = RESTART_WITHIN_S if kind == RESTARTED else within.get(kind)
        figures.append(_recovery(kind, incidents, beyond, bound))
        calm = [each for each in incidents if not each.in_storm]
        if taken := [each.took_over_s for each in calm if each.took_over_s is not None]:
            figures.append(Figure(f"{kind}: taken over", max(taken), "s", Target(at_most=TAKEN_OVER_WITHIN_S), taken))
        if deaths := [float(each.deaths) for each in calm if each.deaths is not None]:
            figures.append(Figure(f"{kind}: deaths", max(deaths), "workers", Target(at_most=DEATHS), deaths))
    plan = result.plan
    return Section(
        f"Recovery, seed {plan.seed}, {result.chaos_s:.0f} s of chaos, {plan.members} members, model {plan.model}",
        figures,
        (
            "value: the worst time from the strike until a read_committed reader had, on every partition concerned, "
            "the result of an event sent after it",
            "in storms other faults struck at the same time: those times are apart and have no target",
            f"{RESTARTED}: beyond the {result.load_s:.2f} s in which one more worker loads the model beside the others",
            f"{AWAY}: readers wait for the transaction's time-out and the broker's abort scan",
            f"{DEADLY}: by SIGSEGV",
        ),
    )


def _recovery(kind: str, incidents: Sequence[Incident], beyond: float, bound: float | None) -> Figure:
    calm = [each.recovered_s - beyond for each in incidents if not each.in_storm]
    storm = [each.recovered_s - beyond for each in incidents if each.in_storm]
    columns = {"times": len(calm) + len(storm), "median s": statistics.median(calm or storm)}
    if storm:
        columns |= {"in storms": len(storm), "worst there s": max(storm)}
    target = Target(at_most=bound) if bound is not None and calm else None
    return Figure(kind, max(calm or storm), "s", target, calm or storm, columns)


def _anomalies(result: ChaosRun) -> Section:
    verdict = result.verdict
    none = Target(at_most=0)
    figures = [
        Figure(kind, len(found), "events", none, columns={"first": " ".join(map(str, found[:EXAMPLES]))})
        for kind in KINDS
        for found in [verdict.anomalies[kind]]
    ]
    codes = [code for ends in result.ends.values() for code in ends]
    for_good = [code for code in codes if code in FOR_GOOD]
    others = [code for code in codes if code not in FOR_GOOD]
    figures += [
        Figure("member ended for good", len(for_good), "times", none, columns={"first": " ".join(map(str, for_good))}),
        Figure("member ended, started again", len(others), "times", columns={"first": " ".join(map(str, others))}),
        Figure("unknown end of writing", verdict.unknown, "events", columns={"first": " ".join(result.failures)}),
        Figure("of these with an outcome", verdict.unknown_with_outcome, "events"),
        Figure("unseen by retention", verdict.unseen_by_retention, "events"),
    ]
    notes = [f"{kind}: {MEANINGS[kind]}" for kind in KINDS]
    if result.worth_keeping:
        notes.append(f"the logs are kept in {result.directory}")
    return Section(f"Anomalies among {verdict.events:,} events with {verdict.outcomes:,} outcomes", figures, notes)
