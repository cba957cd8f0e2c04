"""Whether a model can be found and is whole, as far as it can be told without torch and without running anything of
it. What a load alone can tell, `streamer doctor` does."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from streamer.errors import ModelError
from streamer.extras import require
from streamer.inference.models.adapter import adapter_problem
from streamer.inference.models.class_source import class_problem
from streamer.inference.models.quantised import method_of
from streamer.inference.models.reference import Located, PythonClass, is_absent, resolve
from streamer.inference.models.safety import read_json, used_files
from streamer.inference.models.sentence_files import MODULES_FILE

_VOCABULARIES: Final = ("tokenizer.json", "vocab.json", "vocab.txt", "*.model", "*.spm")
OF_NO_FILES: Final = frozenset({"ByT5Tokenizer", "CanineTokenizer", "DiaTokenizer", "PerceiverTokenizer"})
"""Tokenizers that split bytes or characters."""
_TYPES_OF_NO_FILES: Final = frozenset({"canine", "dia", "perceiver"})


def model_problem(reference: str, *, downloads: bool = False) -> str:
    """What a start would stumble over, with the fix where one is known; "" where nothing is wrong. A model of the hub
    that may be downloaded need not be there."""
    try:
        found = None if downloads and is_absent(reference) else resolve(reference)
    except ModelError as error:
        return str(error)
    return class_problem(found) if isinstance(found, PythonClass) else files_problem(reference, downloads=downloads)


def files_problem(reference: str, *, downloads: bool = False) -> str:
    """The same, of files alone."""
    try:
        if downloads and is_absent(reference):
            return ""
        found = resolve(reference)
        if isinstance(found, Located):
            used_files(found.path)
            return _tokenizer_problem(found.path)
    except ModelError as error:
        return str(error)
    except OSError as error:
        return f"{error.filename} can't be read ({error.strerror}); let this user read the model's files"
    return ""


def refuse_early(reference: str, adapter: str = "", task: str = "") -> None:
    """Raise the `ModelError` of a model or adapter that is not there, or whose files a worker would refuse, and
    `MissingExtraError` where the libraries that models need are not installed: at once, before any is imported."""
    if text := files_problem(reference) or adapter_problem(adapter, reference, task):
        raise ModelError(text)
    require_libraries(reference)


def require_libraries(reference: str) -> None:
    """Raise `MissingExtraError` where the libraries that a model needs are not installed."""
    if extra := extra_of(reference):
        require(f"model {reference}", extra)
    if is_quantised(reference):
        require(f"model {reference}, whose weights are quantised,", "quantized")


def is_quantised(reference: str) -> bool:
    """Whether a model's files, as far as they are there, hold quantised weights: these need an extra of their own."""
    try:
        found = resolve(reference) if extra_of(reference) == "inference" else None
        return isinstance(found, Located) and bool(method_of(read_json(found.path / "config.json")))
    except (ModelError, OSError):  # said elsewhere
        return False


def extra_of(reference: str) -> str:
    """The extra that has to be there, or "": what a class of the user's needs, only its import tells."""
    if reference.startswith(("http:", "https:")):
        return "served"
    return "" if reference.startswith(("python:", "builtin:")) else "inference"


def _tokenizer_problem(path: Path) -> str:
    """Of a directory as `save_pretrained` writes it: where the modules of others keep theirs is their own matter."""
    if (path / MODULES_FILE).is_file() or any(True for name in _VOCABULARIES for _ in path.glob(name)):
        return ""
    named = read_json(path / "tokenizer_config.json").get("tokenizer_class")
    if named in OF_NO_FILES or read_json(path / "config.json").get("model_type") in _TYPES_OF_NO_FILES:
        return ""
    return f"{path} has no tokenizer; add tokenizer.json of the model that it was trained from"
