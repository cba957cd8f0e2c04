"""A configuration for one pipeline, as a person would write it: what matters, and what each line is for."""

from __future__ import annotations

import json
from typing import Final

import msgspec

_COLUMN: Final = 40
_WIDTH: Final = 120
_LABELS: Final = 12
_NEW_TOKENS: Final = ("max_new_tokens", 200, "tokens of an answer, where the event does not say")
_OPTIONS: Final = {
    "text-classification": ("top_k", 3, "the scores of this many labels, not only of the likeliest"),
    "token-classification": ("aggregation", "first", "all tokens of a word get the label of its first"),
    "zero-shot-classification": ("candidate_labels", ["delivery", "praise"], "for events that name none"),
    "question-answering": ("max_answer_tokens", 15, "the longest answer"),
    "fill-mask": ("top_k", 5, "candidates for each mask"),
    "embedding": ("precision", "int8", "vectors of a quarter of the size"),
    "scoring": ("per_token", True, "adds each token's own log-likelihood"),
    **dict.fromkeys(("summarization", "translation", "text2text-generation", "text-generation"), _NEW_TOKENS),
}
"""The option that is asked for first, a value, and what it does."""
_REJECT: Final = '"reject": dead letters'
_WINDOW: Final = '"window": reads all of it'


class Template(msgspec.Struct, frozen=True, kw_only=True):
    """What the file says. `event` is one that the model answers; `max_tokens` 0 and no `labels` are not known."""

    name: str
    task: str
    model: str
    model_note: str
    input: str
    output: str
    event: str
    bootstrap_servers: str = "localhost:9092"
    cache_url: str = ""
    allow_downloads: bool = False
    labels: tuple[str, ...] = ()
    max_tokens: int = 0
    windows: bool = False

    @property
    def dead_letter(self) -> str:
        """The topic for dead letters."""
        return f"{self.output}.dlq"

    def render(self) -> str:
        """The TOML file."""
        lines = [
            f"# {_comment(f'{self.name}: {self.task} of the events in {self.input}; results go to {self.output}.')}",
            "# `streamer config check` checks this file, `streamer config show` prints every field with its default.",
            "",
            "[kafka]",
            _line("bootstrap_servers", self.bootstrap_servers),
            "",
            "[cache]",
            _line("url", self.cache_url, _about_cache(self.cache_url)),
            "",
            f"[pipelines.{self.name}]",
            _line("task", self.task, self._labels()),
            _line("model", self.model, self.model_note),
        ]
        if self.allow_downloads:
            lines.append(_line("allow_downloads", True, "a run downloads it if the hub's local cache does not have it"))
        lines += [
            _line("input", [self.input], f"events such as {self.event}"),
            _line("output", self.output, "results"),
            _line("dead_letter", self.dead_letter, "records without an answer, unchanged; their headers say why"),
        ]
        if self.max_tokens:
            others = f"{_REJECT}; {_WINDOW}" if self.windows else _REJECT
            lines.append(_line("on_overflow", "truncate", f"texts over {self.max_tokens} tokens; {others}"))
        if option := _OPTIONS.get(self.task):
            lines += [
                "",
                f"# [pipelines.{self.name}.options]",
                _line(f"# {option[0]}", *option[1:]),
            ]
        return "\n".join(lines) + "\n"

    def _labels(self) -> str:
        if not self.labels:
            return ""
        more = ", …" if len(self.labels) > _LABELS else ""
        return f"labels: {', '.join(self.labels[:_LABELS])}{more}"


def _about_cache(url: str) -> str:
    return "" if url else 'answers stay in memory; "redis://HOST:6379/0" shares them between replicas'


def _line(key: str, value: object, note: str = "") -> str:
    """A key and its value, and what it is for: beside it where there is room, so that notes stand below one another,
    else above it."""
    text = f"{key} = {json.dumps(value, ensure_ascii=False)}"
    if not note:
        return text
    beside = f"{text:<{_COLUMN - 1}} # {_comment(note)}"
    return beside if len(beside) <= _WIDTH else f"# {_comment(note)}\n{text}"


def _comment(text: str) -> str:
    """In one line, whatever the model's files call its labels."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())
