"""A conversation as the model's chat template writes it, in which the template alone makes control tokens."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Sequence
from typing import Any

from streamer.errors import Code, DataFailure
from streamer.inference.models.text_reader import TextReader

Messages = list[dict[str, str]]

_ALTERED = DataFailure(
    Code.VALIDATE_PARAMS,
    "a message holds letters of a control token, and the model's chat template alters it so that they can't be told "
    'from its own: remove them, or set option special_tokens_in_text = "control"',
)
_HARMLESS = "a"


class ChatTemplate:
    """The template of a tokenizer, and what its prompts become. For one thread."""

    def __init__(self, tokenizer: Any, reader: TextReader, *, control: bool) -> None:
        """`control` lets letters of messages become control tokens, as `apply_chat_template` does."""
        self._tokenizer = tokenizer
        self._plain = TextReader(tokenizer, "control")
        self._reader = reader
        self._control = control

    def render(self, messages: Messages) -> str:
        """The prompt. Raises whatever the template raises."""
        prompt: str = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return prompt

    def ids(self, conversations: Sequence[Messages]) -> list[list[int] | DataFailure]:
        """The ids of each conversation's prompt, or why it has none. The template brings all control tokens that
        stand around a prompt, so that the tokenizer adds none."""
        found: list[list[int] | DataFailure] = []
        for messages in conversations:
            try:
                prompt, shape = self.render(messages), None if self._control else self._shape(messages)
            except Exception as error:  # jinja's, also those that a template raises on purpose; they may quote
                name = type(error).__name__
                message = f"the model's chat template refuses these messages ({name})"
                found.append(DataFailure(Code.VALIDATE_PARAMS, message, name))
                continue
            found.append(self._ids(prompt, shape))
        return found

    def _ids(self, prompt: str, shape: list[str | tuple[str]] | None) -> list[int] | DataFailure:
        (plain,) = self._plain.ids([prompt], special=False)
        if shape is None or isinstance(plain, DataFailure):
            return plain
        harmless = "".join(one if isinstance(one, str) else _HARMLESS for one in shape)
        (known,) = self._plain.ids([harmless], special=False)
        located = _locate(prompt, shape) if self._reader.renames else None
        if located is not None:
            mine = "".join(self._reader.trusted(text) if own else text for text, own in located)
            (ids,) = self._reader.ids([mine], special=False)
            if self._reader.steering(ids) == self._reader.steering(known):
                return ids
        # The template alters its messages, or the tokenizer is slow: read it all, if no letters of theirs can matter.
        contents = [one[0] for one in shape if not isinstance(one, str)]
        if any(map(self._reader.controls, contents)) or self._reader.steering(plain) != self._reader.steering(known):
            return _ALTERED
        return plain

    def _shape(self, messages: Messages) -> list[str | tuple[str]]:
        """The template's own letters as strings, and between them the contents, each in a tuple of one."""
        marks = {f"mark{secrets.token_hex(8)}": one["content"] for one in messages if one["content"].strip()}
        if not marks:
            return [self.render(messages)]
        names = iter(marks)
        marked = [one | {"content": next(names)} if one["content"].strip() else one for one in messages]
        pieces = re.split(f"({'|'.join(marks)})", self.render(marked))
        return [(marks[piece],) if piece in marks else piece for piece in pieces]


def _locate(prompt: str, shape: list[str | tuple[str]]) -> list[tuple[str, bool]] | None:
    """The prompt in pieces, each with whether it is the template's own: a content may stand there as it is, or a part
    of it (some leave out spaces around it, or what an answer thought). None where the prompt is made otherwise."""
    found: list[tuple[str, bool]] = []
    at = 0
    for index, piece in enumerate(shape):
        if isinstance(piece, str):
            if not prompt.startswith(piece, at):
                return None
            found.append((piece, True))
            at += len(piece)
            continue
        following = shape[index + 1] if index + 1 < len(shape) else ""
        assert isinstance(following, str)  # `re.split` puts one, if an empty one, between two marks
        last = index + 2 >= len(shape)
        (content,) = piece
        stripped = (content.strip(), content.rstrip(), content.lstrip())
        for form in (content, *stripped, *_parts(prompt, at, content, following)):
            after = at + len(form)
            if prompt.startswith(form, at) and prompt.startswith(following, after):
                if last and after + len(following) != len(prompt):
                    continue
                found.append((form, False))
                at = after
                break
        else:
            return None
    return found if at == len(prompt) else None


def _parts(prompt: str, at: int, content: str, following: str) -> Iterator[str]:
    """What of a content stands at `at`, up to the template's `following` letters: the shortest first."""
    end = prompt.find(following, at) if following else len(prompt)
    while end >= 0 and prompt[at:end] in content:
        yield prompt[at:end]
        end = prompt.find(following, end + 1) if following else -1
