"""What the fields of the health app must hold together with the rest."""

from __future__ import annotations

import re
from collections.abc import Iterator

from streamer.config.fields import Config
from streamer.config.health import RULE_NAME
from streamer.config.problems import LAST_PORT, Problem
from streamer.core.health.alerts.rules import DEFAULTS, LONGEST_S, QUALITY, falls


def check_health(config: Config) -> Iterator[Problem]:
    """Everything wrong with [health] that its fields' own bounds don't tell."""
    health = config.health
    taken = {config.telemetry.spans: "the spans", config.telemetry.reports: "the reports"}
    for name, pipeline in config.pipelines.items():
        taken |= dict.fromkeys(pipeline.input, f"the events of pipeline {name}")
        taken |= {pipeline.output: f"the results of pipeline {name}"}
        taken |= {pipeline.dead_letter: f"the dead letters of pipeline {name}"}
    for field, topic in (("topic", health.topic), ("feedback", health.feedback)):
        if topic and topic in taken:
            yield ("health", field), f"{topic} takes {taken[topic]}; name another topic"
    if health.feedback == health.topic:
        yield ("health", "feedback"), f"{health.topic} is what the app writes; name another topic"
    letters = f"{health.feedback}.dlq"
    if health.feedback and letters in {*taken, health.topic}:
        use = taken.get(letters, "what the app finds")
        yield ("health", "feedback"), f"what is refused goes to {letters}, which takes {use}; name another topic"
    port = int(health.http.rpartition(":")[2] or 1)
    if not 0 < port <= LAST_PORT:
        yield ("health", "http"), f'there is no port {port} to listen on; write one from 1 to {LAST_PORT}, or ""'
    if health.webhook and not health.webhook.startswith(("http://", "https://")):
        field = "webhook_file" if health.webhook_file else "webhook"
        yield ("health", field), "it is not an http:// or https:// URL; write one"
    for name, rule in health.rules.items():
        path = ("health", "rules", name)
        if name == "window" or not re.fullmatch(RULE_NAME, name):
            text = (
                "no name for a rule; use up to 100 letters, digits, - and _, beginning with a letter or a digit, and"
                " not `window`"
            )
            yield path, text
        if name not in DEFAULTS:
            if not rule.metric:
                yield path, f"it needs a metric; without one a rule must be named {', '.join(DEFAULTS)}"
            if rule.threshold is None:
                yield path, "it needs a threshold"
        default = DEFAULTS[name].threshold if name in DEFAULTS else None
        threshold = default if rule.threshold is None else rule.threshold
        metric = rule.metric or (DEFAULTS[name].metric if name in DEFAULTS else "")
        if falls(metric):
            if rule.recover is not None and threshold is not None and rule.recover < threshold:
                yield (*path, "recover"), f"{rule.recover:g} is below the threshold, {threshold:g}; write a higher one"
        elif rule.recover is not None and rule.recover <= 0:
            yield (*path, "recover"), "no number is below it, so that the rule would fire for ever; write one above 0"
        elif rule.recover is not None and threshold is not None and rule.recover > threshold:
            yield (*path, "recover"), f"{rule.recover:g} is above the threshold, {threshold:g}; write a lower one"
        if threshold is not None and threshold <= 0:
            what = "never" if falls(metric) else "always"
            yield (*path, "threshold"), f"at {threshold:g} the rule would {what} be broken; write a number above 0"
        if threshold is not None and threshold > 1 and (metric.endswith("_share") or falls(metric)):
            yield (*path, "threshold"), f"{metric} is 1 at most, and not {threshold:g}; for 5 % write 0.05"
        if rule.over_s is not None and rule.over_s % 60:
            yield (*path, "over_s"), f"{rule.over_s} s is not a whole number of minutes; write a multiple of 60"
        if (rule.over_s or 0) > LONGEST_S and metric not in QUALITY:
            yield (
                (*path, "over_s"),
                f"{rule.over_s} s is more than a day, {LONGEST_S} s; only rules about labels go back further",
            )
