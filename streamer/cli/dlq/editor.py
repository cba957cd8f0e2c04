"""Change dead letters in the operator's editor, and lose nothing of what was typed."""

from __future__ import annotations

import itertools
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from streamer.core.deadletters.letter import Place
from streamer.errors import UsageError

if TYPE_CHECKING:
    from streamer.ops.dlq.ports import Log
    from streamer.ops.dlq.survey import Order

MAX_EDITED = 1_000


@dataclass(slots=True)
class Draft:
    """What the operator changed: the new values by place."""

    values: dict[Place, bytes | None]
    keeps: bool = True

    def discard(self) -> None:
        """Its changes were moved: the file is not needed any more."""
        self.keeps = False


@contextmanager
def editing(log: Log, order: Order, source: Path | None) -> Iterator[Draft]:
    """Let the operator change the values, or take them from the file `source`, which is never removed.

    The editor's file is readable by its owner alone. It goes at the end where nothing was changed or all was moved;
    else it is kept, whatever went wrong, and its name is told. Raises UsageError.
    """
    from streamer.ops.dlq.edit import changes, read_values, write_lines
    from streamer.ops.dlq.find import find, read_closed

    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    if not editor and source is None:
        raise UsageError("set EDITOR, e.g. EDITOR=vi, or change the values with --patch")
    limit = order.most or MAX_EDITED
    with read_closed(log) as closed:
        letters = list(itertools.islice(find(log, order.topics, order.selection, closed), limit + 1))
    if len(letters) > limit and order.most is None:
        raise UsageError(f"more than {limit:,} dead letters for an editor; narrow the filter, or give --max N")
    folder = Path(tempfile.mkdtemp(prefix="streamer-dlq-"))
    path = folder / "dead-letters.jsonl"
    before: bytes | None = None
    draft = Draft({})
    try:
        written = write_lines(letters[:limit], path)
        before = path.read_bytes()
        if not written:
            raise UsageError(f"no dead letter in {', '.join(order.topics)} matches; see `streamer dlq list`")
        if source is None:
            _edit(editor or "", path)
        draft.values = changes(read_values(source or path, written), written)
        yield draft
    finally:
        if draft.keeps and source is None and path.exists() and path.read_bytes() != before:
            click.echo(
                f"your changes are kept in {path}: `streamer dlq edit … --from {path}` continues with them", err=True
            )
        else:
            shutil.rmtree(folder, ignore_errors=True)


def _edit(editor: str, path: Path) -> None:
    try:
        code = subprocess.run([*shlex.split(editor), str(path)], check=False).returncode
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "its quotes do not match"
        raise UsageError(f"EDITOR={editor}: can't be started ({why})") from None
    if code:
        raise UsageError(f"the editor ended with {code}; nothing was moved")
