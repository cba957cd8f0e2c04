"""Change dead letters before they are replayed: by a merge patch, or in an editor as JSON lines."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from streamer.core.deadletters.destinations import Refusal
from streamer.core.deadletters.letter import DeadLetter, Place
from streamer.core.deadletters.lines import line_of, read_line, to_bytes
from streamer.core.deadletters.patch import patched
from streamer.errors import UsageError

Change = Callable[[DeadLetter], bytes | Refusal | None]
NO_OBJECT = Refusal("its value is not a JSON object, so there is nothing to patch: edit it without --patch")


def by_patch(patch: dict[str, Any]) -> Change:
    """Lays a JSON merge patch over each value."""

    def change(letter: DeadLetter) -> bytes | Refusal:
        value = patched(letter.record.value(), patch)
        return NO_OBJECT if value is None else value

    return change


def write_lines(letters: Iterable[DeadLetter], path: Path) -> dict[Place, bytes]:
    """Write dead letters for an editor; returns the lines by place. Those whose headers can't be read are left out."""
    lines = {letter.place: line_of(letter.record, letter.headers) for letter in letters if letter.headers is not None}
    path.write_bytes(b"".join(line + b"\n" for line in lines.values()))
    return lines


def read_values(path: Path, written: dict[Place, bytes]) -> dict[Place, bytes | None]:
    """The values after editing, by place; lines may be missing, so that these dead letters stay.

    Raises UsageError, naming the line and not quoting it, for what is no such line, and where more than the value was
    changed.
    """
    values: dict[Place, bytes | None] = {}
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise UsageError(f"{path}: can't be read ({error.strerror})") from None
    for number, text in enumerate(lines, 1):
        if not text.strip():
            continue
        try:
            line = read_line(text)
        except ValueError as error:
            raise UsageError(f"{path}, line {number}: {error}; nothing was moved") from None
        before = read_line(written[line.place]) if line.place in written else None
        if before is None or line.place in values:
            raise UsageError(
                f"{path}, line {number}: topic, partition and offset must be those of a dead letter that is open, once"
                " each; nothing was moved"
            )
        if (line.key, line.headers, line.timestamp_ms) != (before.key, before.headers, before.timestamp_ms):
            raise UsageError(f"{path}, line {number}: only the value may be changed; nothing was moved")
        values[line.place] = to_bytes(line.value)
    return values


def changes(values: dict[Place, bytes | None], written: dict[Place, bytes]) -> dict[Place, bytes | None]:
    """Those of these values that are not what was written for the editor."""
    return {place: value for place, value in values.items() if value != to_bytes(read_line(written[place]).value)}
