"""A Grafana dashboard of the metrics: every panel says what its metric means, and what to do when it moves.

`python -m streamer.telemetry.dashboards > deploy/grafana/dashboards/streamer.json` after a change.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from streamer.telemetry import catalogue as of
from streamer.telemetry.catalogue import METRICS, Metric

UID: Final = "streamer"
SCHEMA_VERSION: Final = 39  # Grafana 11's; a newer one migrates it as it loads
_COLUMNS: Final = 24
_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
_HEALTH: Final = "streamer_health_"


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture of one metric: its title, and for each line what Prometheus is asked and how the line is called."""

    title: str
    about: Metric
    lines: tuple[tuple[str, str], ...]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8


def _rate(metric: Metric, by: str, *, where: str = "", unit: str = "short", title: str = "", width: int = 8) -> Panel:
    """How often per second, by a label."""
    lines = (
        (f"sum by (pipeline, {by}) (rate({_of(metric, where)}[$__rate_interval]))", f"{{{{pipeline}}}} {{{{{by}}}}}"),
    )
    return Panel(title, metric, lines, unit, width=width)


def _total(metric: Metric, title: str, unit: str = "short") -> Panel:
    """How often per second, all in one."""
    return Panel(title, metric, ((f"sum by (pipeline) (rate({_of(metric)}[$__rate_interval]))", "{{pipeline}}"),), unit)


def _value(metric: Metric, title: str, unit: str = "short", *, how: str = "max", by: str = "", width: int = 8) -> Panel:
    """What it is now."""
    labels, legend = (f"pipeline, {by}", f"{{{{pipeline}}}} {{{{{by}}}}}") if by else ("pipeline", "{{pipeline}}")
    return Panel(title, metric, ((f"{how} by ({labels}) ({_of(metric)})", legend),), unit, width=width)


def _quantiles(metric: Metric, title: str, width: int = 8) -> Panel:
    buckets = f"sum by (pipeline, le) (rate({_of(metric, suffix='_bucket')}[$__rate_interval]))"
    lines = tuple(
        (f"histogram_quantile({share}, {buckets})", f"{{{{pipeline}}}} {name}")
        for share, name in ((0.5, "p50"), (0.99, "p99"))
    )
    return Panel(title, metric, lines, "s", width=width)


def _of(metric: Metric, where: str = "", *, suffix: str = "") -> str:
    return f'{metric.name}{suffix}{{pipeline=~"$pipeline"{"," if where else ""}{where}}}'


def _health(
    name: str, title: str, expression: str, legend: str, meaning: str, change: str, unit: str = "short"
) -> Panel:
    """A metric of `streamer health run`, which has no entry in the catalogue of a pipeline's."""
    return Panel(title, Metric(_HEALTH + name, "gauge", meaning, change), ((expression, legend),), unit)


def _mean_batch() -> Panel:
    records = f"sum by (pipeline) (rate({_of(of.FORWARD_RECORDS)}[$__rate_interval]))"
    batches = f"sum by (pipeline) (rate({_of(of.FORWARD, suffix='_count')}[$__rate_interval]))"
    return Panel("Mean batch", of.FORWARD_RECORDS, ((f"{records} / {batches}", "{{pipeline}}"),))


def _hit_share() -> Panel:
    hits = _of(of.CACHE_LOOKUPS, 'outcome="hit"')
    share = (
        f"sum by (pipeline, tier) (rate({hits}[$__rate_interval])) / "
        f"sum by (pipeline, tier) (rate({_of(of.CACHE_LOOKUPS)}[$__rate_interval]))"
    )
    return Panel("Share of hits", of.CACHE_LOOKUPS, ((share, "{{pipeline}} {{tier}}"),), "percentunit")


def _dead_share() -> Panel:
    dead = _of(of.RECORDS, 'outcome="dead_letter"')
    share = (
        f"sum by (pipeline) (rate({dead}[$__rate_interval])) / "
        f"sum by (pipeline) (rate({_of(of.RECORDS)}[$__rate_interval]))"
    )
    return Panel("Share of dead letters", of.RECORDS, ((share, "{{pipeline}}"),), "percentunit", width=12)


_ALERTS: Final = Metric(
    "ALERTS",
    "gauge",
    "The alerts of deploy/prometheus that fire now.",
    "Open the runbook at the top: each alert has a section that says what to look at and what to do.",
)
_INFO_LABELS: Final = ", ".join(("pipeline", *of.INFO.labels))

_PLACED: Final[dict[str, tuple[Panel, ...]]] = {
    "Golden signals": (
        Panel(
            "Alerts that fire",
            _ALERTS,
            (('count by (alertname, severity, pipeline) (ALERTS{alertstate="firing"})', ""),),
            kind="table",
            width=12,
        ),
        _value(of.STUCK, "Stuck partitions", how="sum", by="reason", width=12),
        _rate(of.RECORDS, "outcome", title="Settled per second"),
        _quantiles(of.EVENT_LATENCY, "From event to answer"),
        _value(of.LAG_SECONDS, "Age of the oldest record", "s"),
    ),
    "Lag and drain": (
        _value(of.LAG_RECORDS, "Records behind", how="sum", by="topic"),
        _value(of.DRAIN, "Time to drain", "s"),
        _value(of.LAG_SECONDS, "Age of the oldest record by partition", "s", by="partition"),
        _value(of.HEAD_OF_LINE, "Longest in flight", "s"),
        _value(of.IN_FLIGHT_BYTES, "In flight", "bytes", how="sum"),
        _value(of.HELD, "Held: nothing is taken"),
    ),
    "Model": (
        _quantiles(of.FORWARD, "Forward batch"),
        _mean_batch(),
        _total(of.FORWARD_PASSES, "Forward passes per second"),
        _rate(of.TOKENS, "kind", title="Tokens per second"),
        _value(of.WORKERS_READY, "Workers ready", how="sum"),
        _rate(of.WORKER_RESTARTS, "reason", title="Workers lost per second"),
    ),
    "Cache": (
        _hit_share(),
        _rate(of.CACHE_LOOKUPS, "outcome", title="Look-ups per second"),
        _rate(of.CACHE_STORES, "outcome", title="Stores per second"),
        _value(of.CACHE_AVAILABLE, "The shared cache is asked", how="min"),
    ),
    "Dead letters": (
        _dead_share(),
        _rate(of.RECORDS, "code", where='outcome="dead_letter"', title="Dead letters per second", width=12),
    ),
    "Writing": (
        _rate(of.TRANSACTIONS, "outcome", title="Settles per second"),
        _quantiles(of.SETTLE, "Settle"),
        _rate(of.REBALANCES, "kind", title="Rebalances per second"),
    ),
    "Health": (
        _health(
            "rule_firing",
            "Rules that fire",
            f'max by (pipeline, rule) ({_HEALTH}rule_firing{{pipeline=~"$pipeline"}})',
            "{{pipeline}} {{rule}}",
            "1 while a rule of the health app fires, else 0.",
            "`streamer health status` says which, by how much and since when.",
        ),
        _health(
            "monitor_drift",
            "Drift",
            f'max by (pipeline, monitor) ({_HEALTH}monitor_drift{{pipeline=~"$pipeline"}})',
            "{{pipeline}} {{monitor}}",
            "1 while a monitor says drift, 0 while it says ok; absent if there are too few records to tell.",
            "/drift of the health app has both histograms. Find the cause; if the new is right, save it with"
            " `streamer health baseline save --replace`.",
        ),
        _health(
            "quality",
            "Quality by labels",
            f'max by (pipeline, metric) ({_HEALTH}quality{{pipeline=~"$pipeline"}})',
            "{{pipeline}} {{metric}}",
            "What labels say of results within the horizon.",
            "If it falls: `streamer evaluate` on fresh labels tells by how much, and /quality since when.",
        ),
        _health(
            "estimated_accuracy",
            "Estimated accuracy",
            f'max by (pipeline, revision) ({_HEALTH}estimated_accuracy{{pipeline=~"$pipeline"}})',
            "{{pipeline}} {{revision}}",
            "Share of right answers that the confidence of the last five minutes suggests, without labels.",
            "If it falls, look at drift first; labels alone prove it.",
            "percentunit",
        ),
        _health(
            "failures_total",
            "Failures of the app per second",
            f"sum by (what) (rate({_HEALTH}failures_total[$__rate_interval]))",
            "{{what}}",
            "What failed and was passed over, or is tried again.",
            "The app's log says what failed; publish, look_up: `streamer doctor` checks brokers and rights.",
        ),
        _health(
            "loop_delay_seconds",
            "How late the app is",
            f"max by (instance) ({_HEALTH}loop_delay_seconds)",
            "{{instance}}",
            "How late the app's own timer came: busy above 1.",
            "Above 5 for long: give it a processor to itself, or an app for each fleet.",
            "s",
        ),
    ),
}


def _rest() -> Iterator[Panel]:
    """What no row has: nothing of the catalogue is missing, and a new metric is here by itself."""
    placed = {panel.about.name for panels in _PLACED.values() for panel in panels}
    for metric in METRICS:
        title = metric.name.removeprefix("streamer_").removesuffix("_total").replace("_", " ").capitalize()
        if metric is of.INFO:
            lines = ((f"count by ({_INFO_LABELS}) ({_of(metric)})", ""),)
            yield Panel("What runs here", metric, lines, kind="table", width=_COLUMNS)
        elif metric.name in placed:
            continue
        elif metric.kind == "histogram":
            yield _quantiles(metric, title)
        elif metric.kind == "gauge":
            yield _value(metric, title)
        elif metric.labels:
            yield _rate(metric, metric.labels[0], title=f"{title} per second")
        else:
            yield _total(metric, f"{title} per second")


def dashboard() -> dict[str, Any]:
    """The dashboard, as Grafana reads it from a file."""
    return {
        "uid": UID,
        "title": "streamer",
        "description": "Pipelines of streamer: what they answer, how far behind they are, and what is wrong.",
        "tags": ["streamer"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": True,
        "graphTooltip": 1,  # one cross hair for all panels
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "links": [
            {
                "type": "link",
                "title": "Runbook",
                "tooltip": "What to do",
                "url": "${runbook}",
                "icon": "doc",
                "targetBlank": True,
                "asDropdown": False,
                "includeVars": False,
                "keepTime": False,
                "tags": [],
            }
        ],
        "templating": {"list": [*_variables()]},
        "panels": [*_laid_out()],
    }


def _variables() -> Iterator[dict[str, Any]]:
    yield {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
    yield {
        "name": "pipeline",
        "label": "Pipeline",
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": f"label_values({of.INFO.name}, pipeline)", "refId": "pipeline"},
        "refresh": 2,  # when the time range changes
        "sort": 1,
        "includeAll": True,
        "multi": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }
    # Where docker-compose.yml has it; put the address of yours here.
    runbook = "http://127.0.0.1:9090/user/deploy/RUNBOOK.md"
    yield {
        "name": "runbook",
        "label": "Runbook",
        "type": "textbox",
        "query": runbook,
        "current": {"text": runbook, "value": runbook},
    }


def _laid_out() -> Iterator[dict[str, Any]]:
    """Row after row, from left to right; each panel's place is its own."""
    height, y = 8, 0
    for title, panels in {**_PLACED, "More": tuple(_rest())}.items():
        yield {"type": "row", "title": title, "collapsed": False, "gridPos": {"x": 0, "y": y, "w": _COLUMNS, "h": 1}}
        x, y = 0, y + 1
        for panel in panels:
            if x + panel.width > _COLUMNS:
                x, y = 0, y + height
            yield _drawn(panel, {"x": x, "y": y, "w": panel.width, "h": height})
            x += panel.width
        y += height


def _drawn(panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    table = panel.kind == "table"
    targets = [
        {
            "refId": chr(ord("A") + number),
            "datasource": _SOURCE,
            "expr": expression,
            "legendFormat": legend,
            **({"instant": True, "format": "table"} if table else {}),
        }
        for number, (expression, legend) in enumerate(panel.lines)
    ]
    drawn = {
        "type": panel.kind,
        "title": panel.title,
        "description": f"{panel.about.meaning}\n\n**When it moves:** {panel.about.change}",
        "datasource": _SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, **({} if table else {"min": 0})}, "overrides": []},
        "targets": targets,
    }
    if table:
        hidden = {"excludeByName": {"Time": True, "Value": True}}
        return {**drawn, "transformations": [{"id": "organize", "options": hidden}]}
    return {**drawn, "options": {"tooltip": {"mode": "multi", "sort": "desc"}, "legend": {"showLegend": True}}}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(dashboard(), indent=2) + "\n")
