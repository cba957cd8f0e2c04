"""`streamer doctor`: check everything that a run needs, and say how to fix what is wrong."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from streamer.cli.options import chosen_pipelines, config_options, loaded
from streamer.config.seats import seats_of
from streamer.core.tally import plural
from streamer.errors import ConfigurationError, ExitCode
from streamer.extras import absent

if TYPE_CHECKING:
    from streamer.inference.spec import WorkerSpec
    from streamer.ops.doctor.examine import Check

_LOADED_WITHIN_S = 300.0
_COLOURS = {"error": "red", "warning": "yellow"}


@click.command()
@click.option("--pipeline", "names", multiple=True, metavar="NAME", help="Only this pipeline; may be repeated.")
@click.option("--no-model", is_flag=True, help="Only look at the models' files; start no worker.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@config_options
def doctor(
    names: tuple[str, ...],
    no_model: bool,
    as_json: bool,
    config_path: str | None,
    overrides: tuple[str, ...],
    verbose: bool,
) -> int:
    """Check everything that a run needs, and say how to fix what is wrong. Changes nothing.

    Looks at the configuration, the extras that are installed, brokers, topics, rights, groups, time limits, Redis
    (where it writes a key that lives a second), the models (each is loaded in a worker), and this machine's GPU,
    memory, cores and ports.

    An error would stop `streamer run`, or lose records, results or dead letters; with a warning it runs, but worse.
    Exits 3 when there is an error, 0 otherwise.
    """
    logging.basicConfig(level=logging.DEBUG if verbose else logging.CRITICAL)
    checks = list(_shown(_checks(config_path, overrides, names, not no_model), quiet=as_json))
    findings = [finding for check in checks for finding in check.findings]
    errors = sum(finding.severity == "error" for finding in findings)
    if as_json:
        checked = [{"noun": check.noun, "about": check.about} for check in checks]
        found = [asdict(finding) for finding in findings]
        click.echo(json.dumps({"ok": not errors, "checked": checked, "findings": found}, ensure_ascii=False))
    elif findings:
        click.echo(f"\n{plural(errors, 'error')}, {plural(len(findings) - errors, 'warning')}")
    else:
        click.echo("\nAll is well.")
    return ExitCode.CONFIGURATION if errors else ExitCode.DONE


def _checks(
    config_path: str | None, overrides: tuple[str, ...], names: tuple[str, ...], load_models: bool
) -> Iterator[Check]:
    from streamer.app.workers import worker_plan
    from streamer.core.surroundings import ModelInfo
    from streamer.inference.models.presence import extra_of
    from streamer.inference.models.reference import is_absent
    from streamer.inference.worker.trial import look_at_files, try_in_worker
    from streamer.ops.doctor.examine import Check, examine, refused

    try:
        config = loaded(config_path, overrides)
    except ConfigurationError as error:
        yield Check("configuration", config_path or "streamer.toml", refused(error))
        return
    chosen = chosen_pipelines(config, names)

    def spec(name: str) -> tuple[int, WorkerSpec]:
        return worker_plan(config.pipelines[name], name, len(seats_of(config.pipelines, chosen)))

    def plan(name: str) -> tuple[int, int]:
        workers, own = spec(name)
        return workers, own.threads

    def model(name: str) -> ModelInfo:
        _, own = spec(name)
        if config.pipelines[name].allow_downloads and is_absent(own.model):
            return ModelInfo(name=f"{own.model}, which a run downloads")
        info = look_at_files(own)
        if info.failure or not load_models or ((extra := extra_of(own.model)) and absent(extra)):
            return info
        if sys.stderr.isatty():
            click.echo(f"  loading the model of {name} …", err=True)
        return try_in_worker(own, _LOADED_WITHIN_S)

    yield from examine(config, chosen, plan, model, int(time.time() * 1000), runs_here=load_models)


def _shown(checks: Iterator[Check], *, quiet: bool) -> Iterator[Check]:
    """Each check as it comes: loading a model takes a while."""
    for check in checks:
        yield check
        if quiet:
            continue
        worst = min((finding.severity.value for finding in check.findings), default="ok")
        mark = {"ok": "✓", "warning": "!", "error": "✗"}[worst]
        click.echo(f"{click.style(mark, fg=_COLOURS.get(worst, 'green'))} {check.noun:<10} {check.about}")
        for finding in check.findings:
            label = click.style(finding.severity.value, fg=_COLOURS[finding.severity], bold=True)
            click.echo(f"    {label} {finding.code} · {finding.where}\n      {finding.what}\n      fix: {finding.fix}")
