"""The fields of the health app: names, types, bounds, defaults, and for each when to change it."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from streamer.config.kinds import kind
from streamer.config.pipeline import TOPIC_KIND, Topic

RULE_NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$"


class HealthRuleConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A rule of the health app: which number, from which value on it is wrong, and for how long."""

    metric: Annotated[
        Literal[
            "",
            "dead_letter_share",
            "skipped_share",
            "truncated_share",
            "cached_share",
            "latency_p50_ms",
            "latency_p99_ms",
            "silent_s",
            "drifting_monitors",
            "accuracy_gap",
            "accuracy",
            "f1_macro",
            "f1_micro",
            "exact_match",
            "word_f1",
            "rouge_l",
            "ece",
            "mae",
        ],
        Meta(
            description='The metric that is measured; "" keeps that of the default rule of this name. Other rules'
            " need one. Those from accuracy_gap on are measured on labels."
        ),
    ] = ""
    threshold: Annotated[
        float | None,
        Meta(
            description="The rule is broken at this value and above; where high values are good, such as accuracy,"
            " below it. Set it to the most, or the least, that your users tolerate."
        ),
    ] = None
    recover: Annotated[
        float | None,
        Meta(
            description="A firing rule ends below this value. Default: 0.8 of the threshold. Lower it when"
            " a rule fires and ends again and again. Where high values are good it ends at this value and above, by"
            " default a fifth of the way from the threshold to 1."
        ),
    ] = None
    over_s: Annotated[
        Annotated[int, Meta(ge=60, le=604800)] | None,
        Meta(
            description="Seconds that are measured together; whole minutes only. Rules about labels measure a day by"
            " default, and no others more. Raise it where records are few, or labels come late.",
        ),
    ] = None
    for_s: Annotated[
        Annotated[int, Meta(ge=0)] | None,
        Meta(description="Seconds that the rule must be broken before it fires. Raise it to tolerate bursts."),
    ] = None
    at_least: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(
            description="With fewer records, or labels, there is no verdict: the state is `insufficient`, not `ok`."
            " Raise it when few records make a rule fire.",
        ),
    ] = None
    severity: Annotated[
        Literal["", "page", "ticket", "off"],
        Meta(description='How urgent it is: page wakes somebody, ticket waits for the morning. "off" drops the rule.'),
    ] = ""


class HealthConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The health app, `streamer health run`: what it reads, where it writes its findings, when it raises an alarm."""

    topic: Annotated[
        Topic,
        kind(TOPIC_KIND),
        Meta(
            description="Topic for windows, states of rules, and snapshots; created if it is missing. Change it to keep"
            " deployments apart on one cluster."
        ),
    ] = "streamer.health"
    feedback: Annotated[
        str,
        kind(f'{TOPIC_KIND}, or ""'),
        Meta(
            pattern=r"^[A-Za-z0-9._-]{0,249}$",
            description='Topic for feedback, what people say about results; "" reads none. What does not fit the schema'
            " goes to {feedback}.dlq. Change it to the topic that your labelling tool writes to.",
        ),
    ] = "streamer.feedback"
    horizon_s: Annotated[
        int,
        Meta(
            ge=60,
            description="Seconds after an event within which feedback on it counts; later feedback is counted as"
            " late. Raise it where labels take longer.",
        ),
    ] = 604800
    http: Annotated[
        str,
        kind('host:port, or ""'),
        Meta(
            pattern=r"^$|^.+:[0-9]{1,5}$",
            description='host:port of the app\'s pages and of its /metrics; "" turns them off. Change the port when two'
            " run on one machine or beside seven or more pipelines; change the host to 0.0.0.0 in a container.",
        ),
    ] = "127.0.0.1:9470"
    false_alarms_per_month: Annotated[
        float,
        Meta(
            gt=0,
            le=1000,
            description="False alarms about drift that a pipeline may raise in a month in which nothing changes. Lower"
            " it to be called less often, raise it to find smaller moves; pipelines may have numbers of their own.",
        ),
    ] = 1.0
    webhook: Annotated[
        str,
        Meta(
            description='URL that gets a POST with JSON when a rule fires or ends; "" calls none. Set it if nothing'
            " reads the metrics."
        ),
    ] = ""
    webhook_file: Annotated[
        str,
        Meta(description="A file that holds the URL, instead of `webhook`. Use it when the URL is a secret."),
    ] = ""
    rules: Annotated[
        dict[Annotated[str, Meta(pattern=RULE_NAME)], HealthRuleConfig],
        Meta(
            description="Rules by name. One with the name of a default rule (dead-letters, latency, silent, drift,"
            " accuracy-gap) changes that rule, any other is added."
        ),
    ] = {}

    def __repr__(self) -> str:
        """Without the webhook: it may hold a token."""
        return f"HealthConfig(topic={self.topic!r}, feedback={self.feedback!r}, http={self.http!r})"
