"""`streamer evaluate`: how right a model is on files that have labels."""

from __future__ import annotations

import sys
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import click
import msgspec

from streamer.cli.options import config_options, number
from streamer.cli.over_files import Asked, existing_files, file_format, file_stamp, model_options
from streamer.errors import ConfigurationError, ExitCode, UsageError
from streamer.files.rows import STDIN

if TYPE_CHECKING:
    from streamer.config.load import Config
    from streamer.core.health.evaluation.evaluation import Evaluation, Versus
    from streamer.files.labelled import LabelFields

EVERY_LABEL = 1 << 20


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@model_options
@click.option("--against", metavar="REF", help="Compare with this model on the same rows.")
@file_format
@click.option("--label-field", default="label", show_default=True, metavar="NAME", help="The column or path of labels.")
@click.option("--text-field", default="", metavar="NAME", help="Take the text from this column or path: body.message.")
@click.option("--id-field", default="", metavar="NAME", help="Take the id from this column or path.")
@click.option(
    "--map",
    "names",
    multiple=True,
    metavar="LABEL=NAME",
    help="Read this label of the files as the model's NAME: 1=positive.",
)
@number(
    "--threshold", 0.5, "If a text may have several labels: a label counts as given from this score on.", min=0, max=1
)
@click.option("--by", default="", metavar="FIELD", help="Show how right the model is for each value of this column.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object with all numbers and sums.")
@click.option("--html", "page", metavar="FILE", help="Write one page with pictures, which needs no network.")
@click.option("--show-text", is_flag=True, help="Show the 20 worst texts, with labels and answers.")
@click.option("--save-baseline", metavar="FILE", help="Write the sums, which hold no text, as JSON.")
@click.option(
    "--min",
    "least",
    multiple=True,
    metavar="METRIC=VALUE",
    help="End with exit code 9 if this number is lower: accuracy=0.9.",
)
@click.option(
    "--max",
    "most",
    multiple=True,
    metavar="METRIC=VALUE",
    help="End with exit code 9 if this number is higher: ece=0.05.",
)
@config_options
def evaluate(
    files: tuple[str, ...],
    asked: Asked,
    against: str | None,
    format_: Any,
    label_field: str,
    text_field: str,
    id_field: str,
    names: tuple[str, ...],
    threshold: float,
    by: str,
    as_json: bool,
    page: str | None,
    show_text: bool,
    save_baseline: str | None,
    least: tuple[str, ...],
    most: tuple[str, ...],
) -> ExitCode:
    """Ask the model about the rows of the FILEs and compare its answers with their labels.

    The rows are those of `streamer infer`. What a label has to be depends on the task:

    \b
    text-classification, zero-shot-classification   a name, or a list of names
    token-classification   [{"start", "end", "label"}], or a BIO tag for each word
    question-answering     an answer, or a list of them
    summarization, translation and generation   a reference, or a list of them
    similarity             a number
    scoring                none: perplexity needs no labels

    Texts are shown only with --show-text. Rows that get no answer are counted apart and named.

    The exit code is 0, or 4 where some rows got no answer, or 9 where a --min or --max is missed.
    """
    from streamer.cli.evaluate_bounds import bounds_of, pair_of
    from streamer.core.health.judges.by_task import TASKS, judge_of, metrics_of

    config, chosen = asked.config(), asked.pipeline
    pipeline = config.pipelines[chosen]
    task = pipeline.task
    renamed = dict(pair_of("--map", each) for each in names)
    judges = [judge_of(task, renamed, threshold) for _ in range(2)]
    if judges[0] is None:
        raise UsageError(f"the answers of task {task} can't be compared with labels; evaluate knows {', '.join(TASKS)}")
    bounds = [*bounds_of("--min", least, metrics_of(task), task), *bounds_of("--max", most, metrics_of(task), task)]
    outputs = [path for path in (page, save_baseline) if path]
    paths = existing_files(files, outputs)
    for path in outputs:
        if not Path(path).absolute().parent.is_dir():
            raise UsageError(f"{path} can't be written: there is no folder {Path(path).parent}")
    if against and STDIN in paths:
        raise UsageError("--against reads the rows twice, and standard input can't be read again: name a file")
    if against:
        try:
            second = asked.config(f"pipelines.{chosen}.model={against}", f"pipelines.{chosen}.adapter=")
        except ConfigurationError as error:
            named = [replace(one, where="--against") if one.where == "--model" else one for one in error.refusals]
            raise ConfigurationError.of(named) from None
    from streamer.files.labelled import LabelFields

    if pipeline.envelope != "none" and not text_field:
        raise UsageError(
            f"pipeline {chosen} reads texts out of an envelope ({pipeline.envelope}): name --text-field here"
        )
    text_field, id_field = text_field or pipeline.text_field, id_field or pipeline.id_field
    fields = LabelFields(label_field if judges[0].needs_label else "", text_field, id_field, by)
    with ExitStack() as stack:
        kept = cast(BinaryIO, stack.enter_context(tempfile.TemporaryFile())) if against else None
        stamps = [file_stamp(path) for path in paths]
        code, found, _ = _run(config, chosen, judges[0], paths, format_, fields, kept=kept)
        versus = None
        if against and kept is not None and found is not None:
            from streamer.app.evaluate import versus as compare

            kept.seek(0)
            code_second, theirs, comparison = _run(second, chosen, judges[1], paths, format_, fields, other=kept)
            if theirs is None or comparison is None:
                return code_second
            if stamps != [file_stamp(path) for path in paths]:
                raise UsageError("a file changed while it was read: the models did not see the same rows; ask again")
            versus = compare(found, theirs, comparison)
            code = max(code, code_second)
    if found is None:
        return code
    missed = [text for bound in bounds if (text := bound.missed(found))]
    if save_baseline:
        from streamer.ops.evaluate_json import sums

        _write(save_baseline, msgspec.json.format(msgspec.json.encode(sums(found)), indent=1) + b"\n")
    _tell(found, versus, by, show_text=show_text, as_json=as_json, page=page, missed=missed)
    for text in missed:
        click.echo(f"streamer: {text}", err=True)
    return ExitCode.ATTENTION if missed else code


def _run(
    config: Config,
    name: str,
    judge: Any,
    paths: list[str],
    format_: Any,
    fields: LabelFields,
    **files: BinaryIO | None,
) -> tuple[ExitCode, Evaluation | None, Any]:
    """One model; no evaluation where the run ended before the rows did."""
    from streamer.cli.infer_progress import shown
    from streamer.core.health.judges.texts import AnswerJudge
    from streamer.files.labelled import LabelledRows

    empty = isinstance(judge, AnswerJudge)
    rows = LabelledRows(paths, sys.stdin.buffer, format_, fields, judge.read, empty=empty)
    rows.open()
    from streamer.app.evaluate import evaluate as run

    with shown(rows, 0) as progress:
        code, found, comparison, counts = run(
            _scoring_every_label(config, name), name, rows, judge, by=bool(fields.by), progress=progress, **files
        )
    if code not in (ExitCode.DONE, ExitCode.SOME_FAILED):
        if counts.interrupted:
            click.echo(f"streamer: interrupted after {counts.written:,} rows; nothing was judged", err=True)
        return code, None, None
    if not rows.labelled and (rows.unlabelled or not counts.written):
        field = f" with a label in {fields.label!r}; name another field with --label-field" if fields.label else ""
        raise UsageError(f"{', '.join(paths)}: there are no rows{field}")
    return code, found, comparison


def _scoring_every_label(config: Config, name: str) -> Config:
    """A classifier of files says the scores of all its labels, if nobody chose otherwise: calibration and several
    labels need them."""
    pipeline = config.pipelines[name]
    ours = pipeline.model.partition(":")[0] in ("python", "builtin")
    if ours or pipeline.task != "text-classification" or "top_k" in pipeline.options:
        return config
    every = msgspec.structs.replace(pipeline, options={**pipeline.options, "top_k": EVERY_LABEL})
    return msgspec.structs.replace(config, pipelines={**config.pipelines, name: every})


# --- what is told ----------------------------------------------------------------------------------------------------


def _tell(
    found: Evaluation,
    versus: Versus | None,
    by: str,
    *,
    show_text: bool,
    as_json: bool,
    page: str | None,
    missed: list[str],
) -> None:
    if not show_text:
        found.worst = []
        if versus is not None:
            versus.second.worst = []
    if page:
        from streamer.ops.evaluate_page import page_of

        _write(page, page_of(found, versus, by).encode())
    if as_json:
        from streamer.ops.evaluate_json import compared, described

        told = {**described(found), "missed": missed}
        if versus is not None:
            told["against"] = compared(versus)
        click.echo(msgspec.json.encode(told))
        return
    from rich.console import Console

    from streamer.cli.evaluate_table import tell

    tell(Console(), found, versus, by)
    if page:
        click.echo(f"{page} has the pictures")


def _write(path: str, content: bytes) -> None:
    from streamer.errors import DependencyError

    try:
        Path(path).write_bytes(content)
    except OSError as error:
        raise DependencyError(f"{path} can't be written ({error.strerror})") from error
