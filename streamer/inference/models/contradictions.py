"""Options that a model's own files contradict, told from the small ones: a start refuses the same, seconds later.

Where the files leave it open nothing is said: what only a loaded network or tokenizer tells, the worker does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from streamer.errors import ModelError
from streamer.inference.models.intact import read_header
from streamer.inference.models.model_json import join
from streamer.inference.models.safety import read_json
from streamer.inference.models.sentence_files import ModelType, Module, SentenceFiles, read_sentence_files
from streamer.inference.models.task_of import label_names
from streamer.inference.tasks.options import TextOptions, VectorOptions

Told = Iterator[tuple[str, str]]
"""The name of an option, and what to write instead."""

_WIDTHS: Final = ("hidden_size", "d_model", "dim", "n_embd")
_POSITIONS: Final = ("max_position_embeddings", "n_positions")
_ENDLESS: Final = 1 << 20  # what stands in tokenizer_config.json for "no limit" is larger
_OF_ONE_LANGUAGE: Final = frozenset({"t5", "mt5", "umt5", "longt5", "bart", "led", "pegasus", "prophetnet"})
_TEMPLATES: Final = ("chat_template.jinja", "chat_template.json", "additional_chat_templates")


def contradicted(task: str, options: dict[str, Any], path: Path) -> Told:
    """Of a model's directory. Raises `ModelError` for files that can't be read."""
    if look := _LOOKS.get(task):
        yield from look(options, path)


def _of_vectors(options: dict[str, Any], path: Path) -> Told:
    problem, files = _sentence_files(path, "SentenceTransformer", options.get("route"))
    if problem:
        yield "route", problem
    if files is None:
        return
    for name in ("prompt", "candidate_prompt"):
        yield from _prompt(files, options, name)
    kinds = [module.kind for module in files.modules[1:] if module.kind != "Dropout"]
    if options.get("pooling") is not None and kinds.count("Pooling") != 1:
        yield "pooling", "it is for models with one Pooling, and modules.json has none or several; leave it out"
    if options.get("normalize") is False and "Normalize" in kinds[:-1]:
        yield "normalize", "modules.json has a Normalize that others follow; leave it out"
    asked, width = options.get("dimensions"), _width(path, files, options.get("pooling"))
    if isinstance(asked, int) and width is not None and asked > width:
        yield "dimensions", f"the model's vectors have {width} numbers; write a number up to that"


def _rerank(options: dict[str, Any], path: Path) -> Told:
    _, files = _sentence_files(path, "CrossEncoder", None)
    if files is not None:
        yield from _prompt(files, options, "prompt")


def _zero_shot(options: dict[str, Any], path: Path) -> Told:
    config, method = read_json(path / "config.json"), options.get("method")
    has_head = "ForSequenceClassification" in str(config.get("architectures"))
    if method == "embedding" or (method is None and not has_head):
        yield from _of_vectors(options, path)
        return
    for name in VectorOptions.__struct_fields__:
        if name not in TextOptions.__struct_fields__ and name in options:
            yield name, 'it is of embedding models, and method "inference" is not by vectors; leave it out'
    if method and not any(label.lower().startswith("entail") for label in label_names(config)):
        yield "method", 'config.json of the model names no label that begins with entail; write "embedding"'


def _generation(options: dict[str, Any], path: Path) -> Told:
    tokenizer = read_json(path / "tokenizer_config.json")
    if options.get("system") and not options.get("chat"):
        yield "system", "it begins a conversation, so that it needs option chat = true"
    if options.get("chat") and not (tokenizer.get("chat_template") or any((path / one).exists() for one in _TEMPLATES)):
        yield "chat", "the model's tokenizer has no chat template; leave it out, or take a model that is tuned for chat"
    beams = options.get("num_beams") or read_json(path / "generation_config.json").get("num_beams") or 1
    if options.get("temperature") and beams > 1:
        place = "option num_beams" if options.get("num_beams") else "generation_config.json: num_beams"
        yield "temperature", f"it asks to sample, and {place} is {beams}, which does not; write 0, or num_beams = 1"
    asked, config = options.get("max_new_tokens"), read_json(path / "config.json")
    said = [_sizes(config).get(name) for name in _POSITIONS] + [tokenizer.get("model_max_length")]
    limits = [int(one) for one in said if isinstance(one, int | float) and 0 < one < _ENDLESS]
    if isinstance(asked, int) and limits and asked >= min(limits):
        yield "max_new_tokens", f"the model reads {min(limits)} tokens in all; write a number below that"


def _seq2seq(options: dict[str, Any], path: Path) -> Told:
    config, asked = read_json(path / "config.json"), options.get("max_new_tokens")
    positions = config.get("max_position_embeddings")
    if isinstance(asked, int) and isinstance(positions, int) and 0 < positions <= asked:
        yield "max_new_tokens", f"the model writes at most {positions - 1} tokens; write a number up to that"
    named = str(read_json(path / "tokenizer_config.json").get("tokenizer_class")).lower()
    kind = str(config.get("model_type"))
    if kind in _OF_ONE_LANGUAGE and not named.startswith(("mbart", "nllb", "m2m", "plbart")):
        for name in ("src_lang", "tgt_lang"):
            if options.get(name) is not None:
                yield name, f"the tokenizer of a model of type {kind} has no languages; leave it out"


_LOOKS: Final[dict[str, Callable[[dict[str, Any], Path], Told]]] = {
    "embedding": _of_vectors,
    "similarity": _of_vectors,
    "zero-shot-classification": _zero_shot,
    "rerank": _rerank,
    "text-generation": _generation,
    **dict.fromkeys(("summarization", "translation", "text2text-generation"), _seq2seq),
}


def _sentence_files(path: Path, kind: ModelType, route: str | None) -> tuple[str, SentenceFiles | None]:
    """What is wrong with the option route, and the files, where nothing else is wrong with them."""
    try:
        return "", read_sentence_files(path, kind, route)
    except ModelError as error:
        words = str(error)
    return (f"it {words.removeprefix('option route ')}", None) if words.startswith("option route ") else ("", None)


def _prompt(files: SentenceFiles, options: dict[str, Any], name: str) -> Told:
    try:
        files.prompt(options.get(name), options.get(f"{name}_name"), name)
    except ModelError as error:
        yield f"{name}_name", str(error).removeprefix(f"option {name}_name: ")


def _sizes(config: dict[str, Any]) -> dict[str, Any]:
    text = config.get("text_config")
    return config | text if isinstance(text, dict) else config


def _width(path: Path, files: SentenceFiles, pooling: str | None) -> int | None:
    """How many numbers a vector has, None where the files do not say."""
    width: int | None = None
    for module in files.modules:
        said = msgspec.json.decode(module.config, type=dict[str, Any]) if module.config else {}
        match module.kind:
            case "Transformer":
                sizes = _sizes(read_json(path / join(files.layout.folder, "config.json")))
                width = next((size for name in _WIDTHS if isinstance(size := sizes.get(name), int)), None)
            case "StaticEmbedding":
                width = _static_width(path, module)
            case "Pooling" if width is not None and not pooling:
                width *= _modes(said)
            case "Dense":
                named = said.get("module_input_name"), said.get("module_output_name")
                plain = all(name in (None, "sentence_embedding") for name in named)
                width = said.get("out_features") if plain else None
    return width if isinstance(width, int) else None


def _modes(said: dict[str, Any]) -> int:
    """How many vectors a pooling lays side by side."""
    mode = said.get("pooling_mode")
    if mode is not None:
        return len(mode) if isinstance(mode, list) else 1
    return sum(value is True for name, value in said.items() if name.startswith("pooling_mode_")) or 1


def _static_width(path: Path, module: Module) -> int | None:
    try:
        shape = read_header(path / join(module.folder, "model.safetensors"))["embedding.weight"]["shape"]
    except (ModelError, OSError, LookupError, TypeError):
        return None
    return int(shape[1]) if len(shape) == 2 else None
