"""`streamer model`: look at a model before it is served."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click
import msgspec

from streamer.cli.options import adapter, allow_downloads
from streamer.config.load import load
from streamer.errors import ConfigurationError, DataFailure, ExitCode, MissingExtraError, ModelError, UsageError

if TYPE_CHECKING:
    from streamer.inference.models.inspect import About
    from streamer.inference.spec import WorkerSpec

_NAME = "model"
_LOADED_WITHIN_S = 600.0
_WIDTH = 14
_SHOWN = 8
_LETTERS = 24


@click.group()
def model() -> None:
    """Look at a model before it is served, and ask it about one text."""


@model.command()
@click.argument("reference", metavar="REF")
@click.option("--task", help="What the model does. Default: what its files say.")
@adapter
@click.option("--text", help="What to ask it. Default: a sentence that fits the task.")
@click.option("--no-load", is_flag=True, help="Only look at its files.")
@allow_downloads
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Set a field as in a pipeline: options.top_k=3. May be repeated.",
)
@click.option("-v", "--verbose", is_flag=True, help="Log everything.")
def inspect(
    reference: str,
    task: str | None,
    adapter: str | None,
    text: str | None,
    no_load: bool,
    allow_downloads: bool,
    as_json: bool,
    overrides: tuple[str, ...],
    verbose: bool,
) -> int:
    """Tell what REF is (a directory, package:NAME/SUBDIR, org/name@REVISION, python:MODULE:CLASS), its task, labels,
    limits and files, and what of them is ignored; then load it as a run does, and ask it about one text.

    Exits 3 when it can't be served, and 4 when it does not answer the text.
    """
    from streamer.inference.models.inspect import look, look_with

    logging.basicConfig(level="DEBUG" if verbose else "WARNING", format="%(levelname)s %(name)s: %(message)s")
    if allow_downloads:
        from streamer.app.fetch import fetch

        logging.getLogger("streamer.app.fetch").setLevel(logging.INFO)
        fetch(reference)
        if adapter:
            fetch(adapter)
    about = look(reference)
    chosen = task or about.task.task
    overrides = (*overrides, *([f"adapter={adapter}"] if adapter else []))
    spec = _spec(reference, about, chosen, overrides) if chosen else None
    found = _Found(as_json)
    found.say_all(_described(reference, about, task))
    if spec is not None and spec.adapter:
        about = look_with(about, spec.model, spec.adapter, spec.task)
        found.say_all(_adapter(about))
    if spec is not None and about.parameters:
        found.say_all(_plan(spec, about))
    if about.failure:
        return found.end("refused", about.failure, ExitCode.CONFIGURATION)
    if spec is None:
        raise UsageError(_open(about))
    return found.end() if no_load else _try(spec, about, text, found)


def _spec(reference: str, about: About, task: str, overrides: Iterable[str]) -> WorkerSpec:
    """What a worker is told, from the same fields that a pipeline has. Raises ConfigurationError."""
    from streamer.app.workers import worker_plan
    from streamer.inference.models.checks import check

    settings = {"task": task, "model": about.place if about.kind == "directory" else reference, "input": "in"}
    given = [f"pipelines.{_NAME}.{name}={value}" for name, value in {**settings, "output": "out"}.items()]
    given += [f"pipelines.{_NAME}.{override}" for override in overrides]
    try:
        spec = worker_plan(load(os.devnull, {}, given).pipelines[_NAME], _NAME)[1]
    except ConfigurationError as error:
        raise ConfigurationError(str(error).replace(f"pipelines.{_NAME}.", "")) from None
    for place, text in check(spec):
        flag = "--task" if place == ("task",) else f"--set {'.'.join(place)}"
        raise ConfigurationError(f"{flag}: {text}")
    return spec


def _described(reference: str, about: About, task: str | None) -> Iterable[tuple[str, Any, str]]:
    """Each thing that is known without a load: its name in JSON, its value, and how people read it."""
    yield "reference", reference, reference
    yield "kind", about.kind, f"{about.kind} {about.place}".strip()
    others = [one for one in about.task.tasks if one != (task or about.task.task)]
    also = f"; it may also serve {', '.join(others)}" if others and (task or about.task.task) else ""
    why = "as asked" if task else about.task.why
    yield "task", task or about.task.task, f"{task or about.task.task or 'open'} ({why}{also})"
    yield "tasks", about.task.tasks, ""
    if about.architecture:
        yield "architecture", about.architecture, about.architecture
    if about.parameters:
        size = f"{about.parameters / 1e6:,.1f} million, stored as {about.dtype}"
        yield "parameters", about.parameters, size
    if about.labels:
        shown = ", ".join(about.labels[:_SHOWN]) + (", …" if len(about.labels) > _SHOWN else "")
        yield "labels", about.labels, f"{len(about.labels)}: {shown}"
    if about.files:
        yield "max_tokens", about.max_tokens, f"{about.max_tokens:,} by its files" if about.max_tokens else "no limit"
        total = sum(one.size_bytes for one in about.files)
        listed = "".join(f"\n{'':{_WIDTH}}{_size(one.size_bytes):>10}  {one.name}" for one in about.files)
        files = [{"name": one.name, "size_bytes": one.size_bytes} for one in about.files]
        yield "files", files, f"{len(about.files)}, {_size(total)}{listed}"
        yield "revision", about.revision, f"{about.revision} (SHA-256 of these files)" if about.revision else ""
    yield "warnings", about.warnings, f"\n{'':{_WIDTH}}".join(about.warnings) or "none"


def _adapter(about: About) -> Iterable[tuple[str, Any, str]]:
    """What changes the model, and the revision of both."""
    if about.adapter is not None:
        told = about.adapter
        words = f"{told.name}: LoRA of rank {told.rank}, {told.tensors} tensors, {_size(told.size_bytes)}"
        yield "adapter", msgspec.to_builtins(told), f"{words}\n{'':{_WIDTH}}{told.revision} (SHA-256 of its files)"
        yield "revision", about.revision, f"{about.revision} (of both, as in results)"


def _plan(spec: WorkerSpec, about: About) -> Iterable[tuple[str, Any, str]]:
    """How it would run, and why."""
    from streamer.inference.models.checks import without_openvino
    from streamer.machine.processors import usable_gpus

    gpu = spec.device.startswith("cuda") or (spec.device == "auto" and usable_gpus("auto", os.environ))
    reason = without_openvino(spec, "cuda" if gpu else "cpu", about.parameters)
    backend = f"torch; not OpenVINO: {reason}" if reason else "openvino, if its numbers agree with torch's"
    yield "backend", "torch" if reason else "openvino", backend
    auto = "auto: bfloat16 where this hardware multiplies in it and its numbers agree with float32, else float32"
    yield "dtype", spec.dtype, auto if spec.dtype == "auto" else f"{spec.dtype}, as asked"
    yield "worker_bytes", about.worker_bytes, f"about {_size(about.worker_bytes)} a worker, before any batch"


def _try(spec: WorkerSpec, about: About, text: str | None, found: _Found) -> int:
    """Load it and ask."""
    from streamer.inference.backends.samples import sample_event
    from streamer.inference.worker.trial import in_worker

    event = sample_event(spec.task, mask_token=about.mask_token)
    if text is not None:
        event = {**event, "text": text}
    try:
        with _Notes() as notes, in_worker(spec, _LOADED_WITHIN_S) as trial:
            card, info = trial.card, trial.info
            ways = {"dtype": card.dtype, "backend": card.backend, "device": card.device, "checked": card.checked}
            loaded = {**ways, "seconds": info.seconds, "worker_bytes": info.worker_bytes, "notes": notes.lines}
            words = f"in {info.seconds:.1f} s: {card.dtype} by {card.backend} on {card.device}"
            words += f", {_size(info.worker_bytes)}{_because(spec, card.dtype, notes.lines)}"
            words += "".join(f"\n{'':{_WIDTH}}{line}" for line in notes.lines)
            found.say("loaded", loaded, words)
            if card.max_tokens and card.max_tokens != about.max_tokens:
                found.say("max_tokens", card.max_tokens, f"{card.max_tokens:,}, as the loaded network has it")
            if about.kind == "class":
                found.say("revision", card.revision, f"{card.revision} (of the class's code and files)")
            found.say("asked", event, json.dumps(event, ensure_ascii=False))
            answer = trial.ask(event["text"], event.get("text_pair"), event.get("params"))
    except (MissingExtraError, ModelError) as error:
        return found.end("refused", str(error), error.exit_code)
    if isinstance(answer, DataFailure):
        return found.end("no answer", f"{answer.code.value}: {answer.message}", ExitCode.SOME_FAILED)
    output = json.loads(answer.output)
    found.say("answered", output, json.dumps(_short(output), ensure_ascii=False))
    return found.end()


def _because(spec: WorkerSpec, dtype: str, notes: list[str]) -> str:
    if spec.dtype != "auto" or dtype not in ("float32", "bfloat16") or any(dtype in line for line in notes):
        return ""
    return "; this hardware " + ("multiplies in bfloat16" if dtype == "bfloat16" else "does not multiply in bfloat16")


def _open(about: About) -> str:
    names = ", ".join(about.task.tasks)
    return f"the files leave the task open ({about.task.why}); name it with --task{f': {names}' if names else ''}"


def _short(value: Any) -> Any:
    """A long vector with its first numbers alone."""
    if isinstance(value, dict):
        return {key: one[:_LETTERS] + "…" if _is_base64(key, one) else _short(one) for key, one in value.items()}
    if isinstance(value, list):
        more = [f"… {len(value) - _SHOWN} more"] if len(value) > _SHOWN else []
        return [_short(one) for one in value[:_SHOWN]] + more
    return value


def _is_base64(key: str, value: Any) -> bool:
    return key == "vector" and isinstance(value, str)


def _size(size_bytes: int) -> str:
    for unit, of in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= of:
            return f"{size_bytes / of:,.{0 if size_bytes >= 100 * of else 1}f} {unit}"
    return f"{size_bytes} B"


@dataclass
class _Found:
    """Says each thing as it is found, or all of it as JSON at the end."""

    as_json: bool
    all: dict[str, Any] = field(default_factory=dict)

    def say(self, name: str, value: Any, words: str) -> None:
        self.all[name] = value
        if not self.as_json and words:
            click.echo(f"{name.replace('_', ' ').replace('worker bytes', 'memory'):<{_WIDTH}}{words}")

    def say_all(self, things: Iterable[tuple[str, Any, str]]) -> None:
        for name, value, words in things:
            self.say(name, value, words)

    def end(self, kind: str = "", failure: str = "", code: ExitCode = ExitCode.DONE) -> int:
        if self.as_json:
            click.echo(json.dumps({**self.all, "ok": not failure, "failure": failure}, ensure_ascii=False))
        elif failure:
            click.echo(f"{kind:<{_WIDTH}}{failure}")
        return code


class _Notes(logging.Handler):
    """What the worker says of its way to run, while it is entered."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []
        self._log = logging.getLogger("streamer.inference.parent.process")

    def __enter__(self) -> _Notes:
        self._log.addHandler(self)
        self._log.setLevel(logging.INFO)
        self._log.propagate = False
        return self

    def __exit__(self, *_: object) -> None:
        self._log.removeHandler(self)
        self._log.propagate = True

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage().partition(": ")[2])
