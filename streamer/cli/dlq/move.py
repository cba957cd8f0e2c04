"""`streamer dlq replay`, `edit` and `discard`: send dead letters back, or close them."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import click

from streamer.cli.dlq.editor import editing
from streamer.cli.dlq.orders import Asked, carry_out, moving, sending, signed
from streamer.core.deadletters.replay import Decide, Mark, Replay
from streamer.errors import ExitCode, UsageError


@click.command()
@moving
@sending
def replay(
    asked: Asked,
    to: str,
    to_dead_letters: bool,
    addressee: str,
    rate: float | None,
    max_attempts: int,
) -> int:
    """Send dead letters of TOPICS back to the topic and partition that they came from. A dry run without --execute.

    Each goes back unchanged, with its key, headers and id, and is closed in the same transaction. The pipeline that
    failed reads it again; others skip it. `streamer dlq outcome JOB` shows what became of them. Exits 4 when some can't
    be sent, 2 when there are none, 7 while another job moves dead letters of one of these topics.
    """
    from streamer.ops.dlq.destinations import destinations
    from streamer.ops.dlq.models import current_models

    places = destinations(asked.config, asked.topics, to, addressee, to_dead_letters=to_dead_letters)
    more = {"to": to, "for": addressee, "max_attempts": max_attempts}
    order = signed("replay", asked, rate, **more)
    decide = Replay(order.signature, asked.targets.find, places, max_attempts)
    models = current_models(asked.log, asked.config.telemetry.reports)
    return carry_out(asked, order, decide, models=models)


@click.command()
@moving
@sending
@click.option("--patch", metavar="JSON", help="A merge patch for each value, e.g. '{\"params\": null}'.")
@click.option(
    "--from",
    "source",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Use a file that this command kept after an earlier edit; no editor is started.",
)
def edit(
    asked: Asked,
    to: str,
    to_dead_letters: bool,
    addressee: str,
    rate: float | None,
    max_attempts: int,
    patch: str | None,
    source: Path | None,
) -> int:
    """Replay dead letters of TOPICS after a change: a JSON merge patch, or in $EDITOR as JSON lines.

    Only values may change in the editor; a line that is removed or left unchanged stays a dead letter. Without
    --execute it asks at the end on a terminal, and is a dry run elsewhere. The edited file is kept until the changes
    are sent.
    """
    from streamer.ops.dlq.destinations import destinations
    from streamer.ops.dlq.edit import by_patch

    places = destinations(asked.config, asked.topics, to, addressee, to_dead_letters=to_dead_letters)
    patched = None if patch is None else hashlib.sha256(patch.encode()).hexdigest()
    more = {"to": to, "for": addressee, "max_attempts": max_attempts, "patch_sha256": patched}
    order = signed("edit", asked, rate, **more)
    changed = None if patch is None else by_patch(_patch(patch))
    if changed is not None:
        decide: Decide = Replay(order.signature, asked.targets.find, places, max_attempts, changed)
        return carry_out(asked, order, decide)
    with editing(asked.log, order, source) as draft:
        if not draft.values:
            click.echo("nothing was changed, so nothing was moved", err=True)
            return ExitCode.DONE
        values = draft.values
        sends = Replay(order.signature, asked.targets.find, places, max_attempts, lambda letter: values[letter.place])
        ask = not asked.execute and sys.stdin.isatty()
        decide = lambda letter: sends(letter) if letter.place in values else None  # noqa: E731
        moved = lambda: draft.discard()  # noqa: E731
        return carry_out(asked, order, decide, ask=ask, moved=moved)


@click.command()
@moving
@click.option("--reason", required=True, help="Why they are closed; kept with each of them.")
def discard(asked: Asked, reason: str) -> int:
    """Close dead letters of TOPICS for good: they are not listed or replayed any more. A dry run without --execute.

    The records stay in their topic until its retention deletes them; `streamer dlq reopen` opens them again.
    """
    order = signed("discard", asked, reason=reason)
    return carry_out(asked, order, Mark(order.signature, "discarded", reason))


@click.command()
@click.argument("closed_by", metavar="JOB")
@moving
def reopen(asked: Asked, closed_by: str) -> int:
    """Open again what JOB closed in TOPICS, by a replay or a discard. A dry run without --execute.

    It only removes the mark: records that a replay sent stay where they were sent, and so do their results. If you
    replay them once more, they are answered twice, with the same ids.
    """
    order = signed("reopen", asked, reopens=closed_by)
    return carry_out(asked, order, Mark(order.signature, "reopened"))


def _patch(text: str) -> dict[str, Any]:
    try:
        patch = json.loads(text)
    except ValueError:
        patch = None
    if not isinstance(patch, dict):
        raise UsageError("--patch: write a JSON object, in quotes for the shell")
    return patch
