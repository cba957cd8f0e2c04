"""docs/configuration.md, from the types that check a configuration: `python -m streamer.cli.config_page`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import msgspec

from streamer.config.environment import SECTIONS
from streamer.config.health import HealthRuleConfig
from streamer.config.pipeline import PipelineConfig
from streamer.config.reference import Field, fields_of
from streamer.inference.tasks.option_values import Option, options_of
from streamer.inference.tasks.options import OPTIONS

_HEAD = """\
# Configuration

<!-- Generated: python -m streamer.cli.config_page > docs/configuration.md -->

`streamer` reads one TOML file, `./streamer.toml` unless `--config PATH` names another. Environment variables override
the file, and `--set KEY=VALUE` overrides both. `streamer config show` prints the result without its secrets.
`streamer config check` lists everything that is wrong with it, models, classes and ports included; `--json` is for
programs: `{"ok": false, "problems": [{"where": …, "problem": …, "fix": …}]}` and exit code 3.

- **Environment variables** are `STREAMER_` and the path with `__` between its parts:
  `STREAMER_PIPELINES__SENTIMENT__WORKERS=2`. The case of a pipeline's name does not matter, and `_` stands for `-` too.
  `streamer config show --environment` lists the variables of your pipelines. A misspelt variable is refused, and the
  message names the nearest one that exists.
- **Flags** take the path with dots between its parts: `--set pipelines.sentiment.workers=2`.
- In both, write lists with commas (`a,b`), and options of a task as in TOML (`5`, `true`, `["a", "b"]`) or as plain
  text.
- **File names** in the TOML file (a model's directory, fields that end in `_file`, the Kafka client's `ssl.….location`)
  are relative to the folder of that file, wherever you start the command. In variables and flags, and in
  `streamer infer --model`, they are relative to the working directory. In both, `~` is your home directory.
- **A class** of `python:MODULE:CLASS` is looked for among the installed packages, then in the working directory.
- **Properties of the Kafka client** go into `[kafka.properties]` under their own names. In a variable each `_` stands
  for a dot: `STREAMER_KAFKA__PROPERTIES__SASL_USERNAME` is `sasl.username`. `_FILE` at the end reads the value from a
  file: `SASL_PASSWORD_FILE`, in TOML `"sasl.password_file"`.
"""
_OPTIONS = """
## Options of each task

They go into `[pipelines.NAME.options]`. `streamer config show --options TASK` prints them too. A `python:` class reads
options of its own. Where no default is shown, the model's files decide, or the option has none.
"""


def page() -> str:
    """The whole page."""
    return "".join((_HEAD, *_tables(), _OPTIONS, *_tasks()))


def _tables() -> Iterator[str]:
    for name, kind in SECTIONS.items():
        yield f"\n## `[{name}]`\n\n{kind.__doc__}\n\n"
        yield from map(_field, fields_of((name,)))
    yield f"\n## `[health.rules.NAME]`\n\n{HealthRuleConfig.__doc__}\n\n"
    yield from map(_field, fields_of(("health", "rules", "NAME")))
    yield f"\n## `[pipelines.NAME]`\n\n{PipelineConfig.__doc__}\n\n"
    yield from map(_field, fields_of(("pipelines", "NAME")))


def _field(field: Field) -> str:
    default = "must be given" if field.default is msgspec.NODEFAULT else f"default `{_value(field.default)}`"
    return f"- **`{field.name}`**: {field.kind}; {default}; `{field.variable}`<br>\n  {field.about}\n"


def _tasks() -> Iterator[str]:
    by_kind: dict[Any, list[str]] = {}
    for task, kind in OPTIONS.items():
        by_kind.setdefault(kind, []).append(task)
    for tasks in by_kind.values():
        yield f"\n### {', '.join(f'`{task}`' for task in tasks)}\n\n"
        yield from map(_option, options_of(tasks[0]))


def _option(option: Option) -> str:
    default = "" if option.default is None else f"; default `{_value(option.default)}`"
    return f"- **`{option.name}`**: {option.kind}{default}<br>\n  {option.about}\n"


def _value(value: Any) -> str:
    return json.dumps(msgspec.to_builtins(value), ensure_ascii=False)


if __name__ == "__main__":
    sys.stdout.write(page())
