"""A model's tokenizer, as its files say or refused.

transformers makes a tokenizer of whatever it finds: without files one of the special tokens alone, without merges
some that it thinks likely, and of a class that it does not know another one.
"""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path
from typing import Any, Final

from tokenizers import Tokenizer
from transformers import AutoTokenizer
from transformers.models.auto.tokenization_auto import tokenizer_class_from_name

from streamer.errors import ModelError
from streamer.inference.models.safety import read_json

log = logging.getLogger(__name__)

_WHOLE: Final = "tokenizer.json"
_SENTENCEPIECE: Final = ("*.model", "*.spm")
# What transformers takes where a class's own file is not there.
_OTHER_NAMES: Final = ("tokenizer.model", "tiktoken.model")
_CONVERT: Final = "AutoTokenizer.from_pretrained(…).save_pretrained(…) writes tokenizer.json"
# Classes that are what tokenizer.json says.
_PLAIN: Final = ("PreTrainedTokenizerFast", "TokenizersBackend")
# Of words, cases, accents, digits and marks: what any two ways to split text would split differently.
_KNOWN_TEXTS: Final = (
    "The delivery was late and nobody answered the telephone.",
    "Die Lieferung kam pünktlich, aber das Gerät war beschädigt.",
    "In 1969 the Apollo 11 crew brought 21.5 kg of stones home!",
)


def load_tokenizer(path: Path, *, fast: bool = False) -> Any:
    """The tokenizer, fast or slow. Raises `ModelError` where the files hold none, or one that can't be loaded here;
    with `fast`, also where it has no fast form."""
    named = _check_class(path)
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # of transformers, tokenizers and what they import, of many kinds
        raise ModelError(_reason(path, error)) from error
    name = type(tokenizer).__name__
    _refuse_invented(path, tokenizer)
    _refuse_renumbered(path, tokenizer)
    if not tokenizer.is_fast:
        if fast:
            raise ModelError(
                f"the tokenizer in {path} is a {name}, which has no fast form: the task needs one as {_WHOLE}"
            )
        return tokenizer
    # A class with a constructor of its own reads the vocabulary of tokenizer.json and builds the rest itself.
    if (path / _WHOLE).is_file() and "__init__" in vars(type(tokenizer)):
        _refuse_disagreement(path, tokenizer, named)
    return tokenizer


def _check_class(path: Path) -> str:
    """The class that tokenizer_config.json names; refused where only code of the model's own has it."""
    file = path / "tokenizer_config.json"
    config = read_json(file)
    name = config.get("tokenizer_class")
    if not isinstance(name, str) or tokenizer_class_from_name(name) is not None:
        return name if isinstance(name, str) else ""
    own = config.get("auto_map")
    if isinstance(own, list) or (isinstance(own, dict) and own.get("AutoTokenizer")):
        raise ModelError(f"{file} has tokenizer_class {name!r}, of the model's own code (auto_map): it is not run")
    if not (path / _WHOLE).is_file():
        raise ModelError(f"{file} has tokenizer_class {name!r}, which transformers does not have: {_CONVERT}")
    log.warning("%s is a class that transformers does not have: the tokenizer is what %s says", name, _WHOLE)
    return name


def _refuse_invented(path: Path, tokenizer: Any) -> None:
    """A tokenizer needs what its class reads: tokenizer.json, or each of its other files."""
    needed = {key: file for key, file in type(tokenizer).vocab_files_names.items() if isinstance(file, str)}
    if not needed or (path / _WHOLE).is_file():
        return  # a class without files splits bytes or characters
    name = type(tokenizer).__name__
    needed.pop("tokenizer_file", None)
    there = [file for file in (*needed.values(), *_OTHER_NAMES) if (path / file).is_file()]
    if not there:
        raise ModelError(_absent(path, name, list(needed.values())))
    lacking = [needed[key] for key in ("vocab_file", "merges_file") if needed.get(key) not in (None, *there)]
    if there and lacking:
        raise ModelError(f"{path} has no {lacking[0]}, which its tokenizer ({name}) reads beside {there[0]}")


def _refuse_renumbered(path: Path, tokenizer: Any) -> None:
    """Added tokens have the ids that the network was trained with, not the next ones that are free."""
    decoder = read_json(path / "tokenizer_config.json").get("added_tokens_decoder") or {}
    stated = {"added_tokens.json": read_json(path / "added_tokens.json")}
    stated["tokenizer_config.json"] = {
        str(token.get("content")) if isinstance(token, dict) else str(token): int(number)
        for number, token in decoder.items()
    }
    for file, tokens in stated.items():
        for token, number in tokens.items():
            found = tokenizer.convert_tokens_to_ids(token)
            if found != number:
                raise ModelError(
                    f"{path / file} gives the token {token!r} the id {number}, and in the vocabulary beside it it gets "
                    f"{found}: one of the two belongs to another model"
                )


def _absent(path: Path, name: str, files: list[str]) -> str:
    if other := _sentencepiece(path):
        return (
            f"{path} has its tokenizer only as {other}, which {name} does not read: where sentencepiece is installed "
            f"(pip install sentencepiece), {_CONVERT}"
        )
    alternative = f", or {' and '.join(files)}" if files else ""
    return f"{path} has no tokenizer: add {_WHOLE}{alternative}, of the model that it was trained from"


def _sentencepiece(path: Path) -> str:
    return next((file.name for pattern in _SENTENCEPIECE for file in sorted(path.glob(pattern))), "")


def _reason(path: Path, error: Exception) -> str:
    """What to say of a tokenizer that transformers could not load."""
    for file in sorted(path.glob("*.json")):
        if "token" in file.name or file.name == "vocab.json":
            read_json(file)  # which says what is wrong with it
    words = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    if (path / _WHOLE).is_file():
        return f"the tokenizer in {path} can't be loaded: {words}"
    if other := _sentencepiece(path):
        package = "tiktoken" if other == "tiktoken.model" else "sentencepiece"
        if importlib.util.find_spec(package) is None:
            return (
                f"{path} has its tokenizer only as {other}: pip install {package} to read it, or where that is "
                f"installed, {_CONVERT}"
            )
        return f"{path} has its tokenizer only as {other}, which can't be read ({words})"
    if (path / "vocab.json").is_file() and not (path / "merges.txt").is_file():
        return f"{path} has no merges.txt, which its tokenizer needs as well as vocab.json"
    if not any(path.glob("vocab*")):
        return _absent(path, "", [])
    return f"the tokenizer in {path} can't be loaded without {_WHOLE} ({words})"


def _refuse_disagreement(path: Path, tokenizer: Any, named: str) -> None:
    """What a class builds must split text as the file does. `named` is that of tokenizer_config.json, which
    transformers puts aside for some types of models."""
    file, name = path / _WHOLE, type(tokenizer).__name__
    fix = (
        f"{named} in tokenizer_config.json is put aside for config.json's model_type, so that it can't be read here"
        if named in _PLAIN
        else f'set tokenizer_class to "{_PLAIN[0]}" in tokenizer_config.json'
    )
    whole = Tokenizer.from_file(str(file))
    built = tokenizer.backend_tokenizer
    for text in _KNOWN_TEXTS:
        ours, theirs = (one.encode(text, add_special_tokens=False).tokens for one in (whole, built))
        if ours != theirs:
            at = next((i for i, pair in enumerate(zip(ours, theirs, strict=False)) if len(set(pair)) > 1), 0)
            seen = [one[at] if at < len(one) else "nothing" for one in (ours, theirs)]
            raise ModelError(
                f"{file} and its class {name} split text differently ({seen[0]!r} and {seen[1]!r}): where the file is "
                f"right, {fix}, else remove the file"
            )
