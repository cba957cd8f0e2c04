"""Texts to token ids for language models: what letters may become control tokens, and in which language a text is read.

A tokenizer matches its added tokens (`</s>`, `<|im_end|>`, `<think>` …) in whatever it is given, and the vocabularies
of some hold them as ordinary pieces too. `TextReader` gives each control token a name that nobody can guess, in a copy
of the tokenizer: letters of a text stay letters, and what may write control tokens (an option, a chat template) has its
own letters renamed first. All else is the tokenizer's own work, so that a text without such letters reads as ever.
"""

from __future__ import annotations

import copy
import json
import re
import secrets
from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal

import tokenizers

from streamer.errors import Code, DataFailure

ControlLetters = Literal["text", "control"]

_NAME_BYTES: Final = 16
_KNOWN_TEXTS: Final = (
    "In 1969, 3.5 kg of (Apollo 11) stones; naïve café 東京 🙂 <a b='c'> [d] {e}  f\n\ng",
    "a",
    " b ",
)
CONTROL_IN_TEXT: Final = DataFailure(
    Code.VALIDATE_TEXT,
    "the text holds letters of a control token, and the model's tokenizer can't read them as text: remove them, or set "
    'option special_tokens_in_text = "control"',
)


def is_control(content: str, *, special: bool) -> bool:
    """Whether an added token steers the model. One that is not special does when it is written between signs, as
    `<think>` and `[TOOL_CALLS]` are; added words and runs of spaces are text."""
    return special or (
        len(content) > 2
        and not (content[0].isalnum() or content[0].isspace() or content[-1].isalnum() or content[-1].isspace())
        and any(one.isalnum() for one in content)
    )


class TextReader:
    """Reads with a tokenizer, in one thread and without changing it. `letters` says what becomes of control tokens'
    letters in a text."""

    def __init__(self, tokenizer: Any, letters: ControlLetters) -> None:
        self._tokenizer = tokenizer
        # Set to a language before each use, while the other stays as its files have it.
        self._of_languages = copy.deepcopy(tokenizer) if hasattr(tokenizer, "src_lang") else None
        added = tokenizer.added_tokens_decoder
        controls = {
            number: one.content for number, one in added.items() if is_control(one.content, special=one.special)
        }
        longest_first = sorted(controls.values(), key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if controls else None
        self._steering = controls.keys() - {tokenizer.unk_token_id}
        self._names: dict[str, str] = {}
        self._own_frame: Any = None
        self.renames = False
        self._guards = letters == "text"
        if self._guards and tokenizer.is_fast:
            self._rename(tokenizer, longest_first)

    def _rename(self, tokenizer: Any, controls: Sequence[str]) -> None:
        """Read with renamed control tokens, if known texts then read as the tokenizer reads them."""
        names = unguessable(controls)
        renamed = copy.copy(tokenizer)
        renamed._tokenizer = with_names(tokenizer.backend_tokenizer, names)
        # Multilingual ones look their language's name up before each text; `_reader` frames texts by its id.
        renamed._switch_to_input_mode = lambda: None
        if renamed(list(_KNOWN_TEXTS))["input_ids"] == tokenizer(list(_KNOWN_TEXTS))["input_ids"]:
            # In the middle of a text, some are letters even to the tokenizer: those stay as they are.
            own = tokenizer([f"a{content}a" for content in names])["input_ids"] if names else []
            other = renamed([f"a{name}a" for name in names.values()])["input_ids"] if names else []
            numbers = [tokenizer.convert_tokens_to_ids(content) for content in names]
            self._names = {
                content: name
                for (content, name), number, *rows in zip(names.items(), numbers, own, other, strict=True)
                if all(number in row for row in rows)
            }
            self._tokenizer = renamed
            self._own_frame = tokenizer.backend_tokenizer.post_processor
            self.renames, self._guards = True, False

    def controls(self, text: str) -> list[str]:
        """The control tokens whose letters stand in a text, in order."""
        return self._pattern.findall(text) if self._pattern is not None else []

    def trusted(self, text: str) -> str:
        """A text of the operator's or of the model's files, whose control tokens are to be control tokens."""
        if not self._names or self._pattern is None:
            return text
        return self._pattern.sub(lambda match: self._names.get(match[0], match[0]), text)

    def ids(
        self,
        texts: Sequence[str],
        *,
        language: str | None = None,
        special: bool = True,
        prefix: str = "",
        most: int | None = None,
    ) -> list[list[int] | DataFailure]:
        """Each text's ids behind the operator's `prefix`. `language` None reads as the tokenizer's files say; `special`
        adds what the files put around a text; `most` cuts as they say."""
        if not texts:
            return []
        reader = self._reader(language)
        prefix = self.trusted(prefix)
        given = {"add_special_tokens": special, "truncation": most is not None, "max_length": most, "padding": False}
        rows: list[list[int] | DataFailure] = reader([prefix + text for text in texts], **given)["input_ids"]
        if not self._guards:
            return rows
        (frame,) = reader([prefix], **given)["input_ids"]
        for index, text in enumerate(texts):
            if len(self.steering(rows[index])) > len(self.steering(frame)):
                split = reader(text, split_special_tokens=True, **given)["input_ids"]
                clean = not prefix and len(self.steering(split)) <= len(self.steering(frame))
                rows[index] = split if clean else CONTROL_IN_TEXT
        return rows

    def _reader(self, language: str | None) -> Any:
        """The tokenizer in a state that hangs on the language alone."""
        if self._of_languages is None:
            return self._tokenizer
        if language is not None:
            self._of_languages.src_lang = language
        if not self.renames:
            return self._tokenizer if language is None else self._of_languages
        frame = self._own_frame if language is None else self._of_languages.backend_tokenizer.post_processor
        self._tokenizer.backend_tokenizer.post_processor = frame
        return self._tokenizer

    def steering(self, ids: Any) -> list[int]:
        """Those of some ids that are control tokens."""
        return [one for one in ids if one in self._steering]


def unguessable(contents: Iterable[str]) -> dict[str, str]:
    """Names for control tokens that no text spells."""
    return {content: f"ctl{secrets.token_hex(_NAME_BYTES)}" for content in contents}


def with_names(backend: tokenizers.Tokenizer, names: dict[str, str]) -> tokenizers.Tokenizer:
    """A fast tokenizer whose control tokens have other names wherever letters could spell them; their ids stay."""
    state = json.loads(backend.to_str())
    for added in state["added_tokens"]:
        added["content"] = names.get(added["content"], added["content"])
    model = state["model"]
    if isinstance(model["vocab"], dict):
        model["vocab"] = {names.get(piece, piece): number for piece, number in model["vocab"].items()}
    else:  # Unigram: pieces and scores
        model["vocab"] = [[names.get(piece, piece), score] for piece, score in model["vocab"]]
    if model.get("unk_token") in names:
        model["unk_token"] = names[model["unk_token"]]
    if model.get("merges"):
        pairs = [one.split(" ", 1) if isinstance(one, str) else one for one in model["merges"]]
        prefix = model.get("continuing_subword_prefix") or ""
        model["merges"] = [
            [left, right]
            for left, right in pairs
            if not {left, right, left + right.removeprefix(prefix)} & names.keys()
        ]
    return tokenizers.Tokenizer.from_str(json.dumps(state))
