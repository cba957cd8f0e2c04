"""What the files of a sentence-transformers directory say, read strictly into values: modules, prompts, similarity.

A directory is served as `SentenceTransformer.encode` or `CrossEncoder.predict` of sentence-transformers 6.2 serve it,
or refused by file and field. Nothing here imports torch or that library.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal, TypeVar

import msgspec

from streamer.errors import ModelError

MODULES_FILE: Final = "modules.json"
CONFIG_FILE: Final = "config_sentence_transformers.json"
Similarity = Literal["cosine", "dot", "euclidean", "manhattan"]
"""How a model's vectors are compared: their cosine, their product, or a distance with a minus before it."""
ModelType = Literal["SentenceTransformer", "CrossEncoder"]

_PLACES: Final = {
    **dict.fromkeys(("Transformer", "Router", "Asym", "Dense", "Normalize"), "base"),
    **dict.fromkeys(("StaticEmbedding", "Pooling", "LayerNorm", "Dropout"), "sentence_transformer"),
}
_FILES: Final = {"Asym": "router", "StaticEmbedding": "static_embedding", "LayerNorm": "layer_norm"}
CLASSES: Final[dict[str, str]] = {
    f"sentence_transformers.{path}.{kind}": "Router" if kind == "Asym" else kind
    for kind, place in _PLACES.items()
    for path in (
        *("models", f"models.{kind}", "sentence_transformer.modules"),
        f"{place}.modules.{_FILES.get(kind, kind.lower())}",
        *(["base.modules"] if place == "base" and kind != "Asym" else []),
        *(["sentence_transformer.modules.normalize"] if kind == "Normalize" else []),
    )
}
"""What a class is, by each path that versions 2 to 6 of the library have written; `Asym` is what Router once was."""

# In this order; the first that holds anything counts.
_TRANSFORMER_FILES: Final = tuple(
    f"sentence_{name}_config.json"
    for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
_TEMPLATE_FILE: Final = "chat_template.jinja"
_TOKENIZER_FILE: Final = "tokenizer_config.json"
_INPUTS: Final = ("Transformer", "StaticEmbedding")
_ROUTER_FILES: Final = ("router_config.json", "config.json")
# Where the hub's client finds the files, which are here already.
_HUB_FIELDS: Final = frozenset(
    {"cache_dir", "force_download", "local_files_only", "revision", "subfolder", "token", "trust_remote_code"}
)
# Fields of arguments for the network that change nothing of its hidden states in the dtype that the pipeline says.
_HARMLESS_FIELDS: Final = _HUB_FIELDS | {"add_pooling_layer", "dtype", "torch_dtype", "use_safetensors"}
_Read = TypeVar("_Read")


class Module(msgspec.Struct, frozen=True):
    """One step from a text to its vector. `folder` is below the model's directory, "" for itself; `config` is what the
    module's own file says, None where there is none."""

    kind: str
    folder: str
    config: bytes | None = None

    @property
    def file(self) -> str:
        """What messages call the module's own file."""
        return _join(self.folder, "config.json")


class Layout(msgspec.Struct, frozen=True):
    """Where a model's network and tokenizer lie below its directory, and what files beside theirs ask of a text.
    `max_tokens` stands in for the tokenizer's own limit; `lower_case` makes all letters small before anything else."""

    folder: str = ""
    max_tokens: int | None = None
    lower_case: bool = False


class SentenceFiles(msgspec.Struct, frozen=True):
    """All that a directory says beside its network and its tokenizer. `dimensions` cuts the vectors, `activation` is
    the class that a cross-encoder names for its scores."""

    modules: tuple[Module, ...]
    layout: Layout
    prompts: dict[str, str]
    default_prompt: str
    similarity: Similarity
    dimensions: int | None
    activation: str | None

    def prompt(self, literal: str | None, name: str | None, option: str = "prompt") -> str:
        """What goes before a text: as it was asked for literally or by name, else the model's default. `option` names
        the one for the literal. Raises `ModelError`."""
        if literal is not None and name is not None:
            raise ModelError(f"options {option} and {option}_name are both given: one of them names the prompt")
        if name is None:
            return self.default_prompt if literal is None else literal
        if name not in self.prompts:
            names = ", ".join(sorted(self.prompts)) or "none"
            raise ModelError(f"option {option}_name: {CONFIG_FILE} of the model has no prompt {name!r}; it has {names}")
        return self.prompts[name]


def module_folders(path: Path) -> list[str]:
    """The folders that modules.json and the routers below it name, "" for the directory itself; [""] without that
    file. Raises `ModelError`."""
    if not (path / MODULES_FILE).is_file():
        return [""]
    waiting, folders = [(entry.type, entry.path) for entry in _entries(path)], []
    while waiting:
        type_name, folder = waiting.pop()
        folders.append(folder)
        if CLASSES.get(type_name) == "Router" and (file := _first(path, folder, _ROUTER_FILES)):
            router = _decode(path, file, _Router)
            waiting += [(named, _below(folder, part, file)) for part, named in router.types.items()]
    return sorted(set(folders))


def read_sentence_files(path: Path, kind: ModelType, route: str | None = None) -> SentenceFiles:
    """What sentence-transformers would make of the directory. `route` is the task by which its routers choose. Raises
    `ModelError` for what can't be done."""
    if not (path / MODULES_FILE).is_file():  # then the library reads none of its own files either
        if route is not None:
            raise ModelError(f"option route is of models with a Router, and the model has no {MODULES_FILE}")
        return SentenceFiles(_default_modules(path), Layout(), {}, "", "cosine", None, None)
    settings = _decode(path, CONFIG_FILE, _Settings) if (path / CONFIG_FILE).is_file() else _Settings()
    if settings.model_type != kind:
        raise ModelError(
            f"{CONFIG_FILE} of the model: model_type is {settings.model_type!r}, and the task needs {kind!r}"
        )
    entries = _entries(path)
    if route is not None and not any(CLASSES.get(entry.type) == "Router" for entry in entries):
        raise ModelError(f"option route is of models with a Router, and {MODULES_FILE} names none")
    modules = tuple(
        module for entry in entries for module in _resolved(path, entry.type, entry.path, MODULES_FILE, route)
    )
    first, *others = modules
    if first.kind not in _INPUTS or any(one.kind in _INPUTS for one in others):
        raise ModelError(
            f"{MODULES_FILE} of the model needs one Transformer or StaticEmbedding, and as its first module"
        )
    prompts = {name: text or "" for name, text in settings.prompts.items()}
    # The library has these two names for every such model.
    known = prompts if kind == "CrossEncoder" else {"query": "", "document": ""} | prompts
    default = settings.default_prompt_name
    if default is not None and default not in known:
        raise ModelError(f"{CONFIG_FILE} of the model: default_prompt_name {default!r} is not among its prompts")
    return SentenceFiles(
        modules,
        _layout(path, first, kind),
        prompts,
        "" if default is None else known[default],
        settings.similarity_fn_name or "cosine",
        settings.truncate_dim,
        settings.activation_fn,
    )


# --- the files ---


class _Settings(msgspec.Struct):
    """`config_sentence_transformers.json`; fields that it may have besides are read by nobody."""

    model_type: str = "SentenceTransformer"
    prompts: dict[str, str | None] = {}
    default_prompt_name: str | None = None
    similarity_fn_name: Similarity | None = None
    truncate_dim: int | None = None
    activation_fn: str | None = None


class _Entry(msgspec.Struct):
    """A line of modules.json; they count in the order of the file."""

    name: str
    path: str
    type: str


class _RouterParameters(msgspec.Struct, forbid_unknown_fields=True):
    default_route: str | None = None
    allow_empty_key: bool = True
    route_mappings: dict[str, str] | None = None


class _Router(msgspec.Struct):
    types: dict[str, str]
    structure: dict[str, list[str]]
    parameters: _RouterParameters


class _TransformerFile(msgspec.Struct, forbid_unknown_fields=True):
    """`sentence_bert_config.json` and its kin."""

    max_seq_length: int | None = None
    do_lower_case: bool | None = None
    transformer_task: str = "feature-extraction"
    modality_config: dict[str, dict[str, Any]] | None = None
    module_output_name: str | None = None
    processing_kwargs: dict[str, Any] | None = None
    unpad_inputs: bool | None = None
    query_length: int | None = None
    document_length: int | None = None
    query_expansion: dict[str, Any] | None = None
    tokenizer_name_or_path: str | None = None
    model_args: dict[str, Any] = {}
    model_kwargs: dict[str, Any] = {}
    tokenizer_args: dict[str, Any] = {}
    processor_kwargs: dict[str, Any] = {}
    config_args: dict[str, Any] = {}
    config_kwargs: dict[str, Any] = {}


def _entries(path: Path) -> list[_Entry]:
    entries = _decode(path, MODULES_FILE, list[_Entry])
    if not entries or len({entry.name for entry in entries}) < len(entries):
        raise ModelError(f"{MODULES_FILE} of the model names {'a module twice' if entries else 'no module'}")
    for entry in entries:
        entry.path = _below("", entry.path, MODULES_FILE)
    return entries


def _resolved(path: Path, type_name: str, folder: str, file: str, route: str | None) -> list[Module]:
    """A module, or those of the route that a router takes."""
    kind = CLASSES.get(type_name)
    if kind is None:
        own = type_name.startswith("sentence_transformers.")
        reason = "which is not supported" if own else "a class of other code, which is not run"
        raise ModelError(f"{file} of the model names the module {type_name}, {reason}")
    if kind != "Router":
        config = path / folder / "config.json"
        return [Module(kind, folder, config.read_bytes() if config.is_file() else None)]
    router_file = _first(path, folder, _ROUTER_FILES)
    if router_file is None:
        raise ModelError(f"the model lacks {_join(folder, _ROUTER_FILES[0])}, which its Router is read from")
    router = _decode(path, router_file, _Router)
    taken = _route(router, router_file, route)
    if missing := [part for part in router.structure[taken] if part not in router.types]:
        raise ModelError(f"{router_file} of the model: types lacks {missing[0]!r}, which structure names")
    return [
        module
        for part in router.structure[taken]
        for module in _resolved(path, router.types[part], _below(folder, part, router_file), router_file, route)
    ]


def _route(router: _Router, file: str, task: str | None) -> str:
    """The route of a text for `task`: by the mappings, the nearest first, then by its name, then the default."""
    mappings = {}
    for key, target in (router.parameters.route_mappings or {}).items():
        try:
            one, modality = ast.literal_eval(key)
        except (ValueError, SyntaxError, TypeError):
            raise ModelError(f"{file} of the model: route_mappings has the key {key!r}, which is no pair") from None
        mappings[one, modality] = target
    keys = [(task, "text"), (task, None), (None, "text"), (None, None)]
    mapped = next((mappings[key] for key in keys if key in mappings), None)
    default = router.parameters.default_route
    if default is None and router.parameters.allow_empty_key:
        default = next(iter(router.structure), None)
    by_name = next((name for name in (task, "text") if name in router.structure), None)
    taken = mapped or by_name or (default if task is None else None)
    if taken not in router.structure or not router.structure[taken]:
        asked = "no option route is given and it has no default_route" if task is None else f"it has no route {task!r}"
        raise ModelError(f"{file} of the model: {asked}; its routes are {', '.join(sorted(router.structure))}")
    return str(taken)


def _layout(path: Path, first: Module, kind: ModelType) -> Layout:
    if first.kind == "StaticEmbedding":
        return Layout(first.folder)
    if first.config is None:
        raise ModelError(f"the model lacks {first.file}, which its Transformer is loaded from")
    file = _first(path, first.folder, _TRANSFORMER_FILES)
    said = _TransformerFile() if file is None else _decode(path, file, _TransformerFile)
    file = f"{file} of the model"
    task, output = (
        ("sequence-classification", "logits") if kind == "CrossEncoder" else ("feature-extraction", "last_hidden_state")
    )
    expected = {
        "transformer_task": (said.transformer_task, task),
        "module_output_name": (said.module_output_name, "scores" if kind == "CrossEncoder" else "token_embeddings"),
    }
    for field, (value, needed) in expected.items():
        if value not in (None, needed):
            raise ModelError(f"{file}: {field} is {value!r}, and the task needs {needed!r}")
    if said.modality_config is not None:
        text = said.modality_config.get("text")
        if text is None or text.get("method") != "forward" or text.get("method_output_name") not in (output, [output]):
            raise ModelError(f"{file}: modality_config must read {output} of a text from the network's forward")
        if "message" in said.modality_config:
            raise ModelError(f"{file}: modality_config has 'message': texts in chat templates are not supported")
    for field in ("query_length", "document_length", "query_expansion", "tokenizer_name_or_path"):
        if getattr(said, field) is not None:
            raise ModelError(f"{file}: {field} is not supported")
    of_network = said.model_args | said.model_kwargs
    if of_network.get("attn_implementation") in ("eager", "sdpa"):  # which differ in speed
        del of_network["attn_implementation"]
    _refuse_more(file, "model_args", of_network, _HARMLESS_FIELDS)
    _refuse_more(file, "config_args", said.config_args | said.config_kwargs, _HUB_FIELDS | {"use_cache"})
    of_tokenizer = said.tokenizer_args | said.processor_kwargs
    _refuse_more(file, "tokenizer_args", of_tokenizer, _HUB_FIELDS | {"model_max_length", "use_fast"})
    of_texts = {key: value for key, value in (said.processing_kwargs or {}).items() if value}
    _refuse_more(file, "processing_kwargs", of_texts, {"image", "audio", "video", "chat_template"})
    most = of_tokenizer.get("model_max_length", said.max_seq_length)
    if most is not None and (not isinstance(most, int) or most < 1):
        raise ModelError(f"{file}: max_seq_length must be a whole number of tokens, not {most!r}")
    return Layout(first.folder, most, bool(said.do_lower_case))


def refuse_template(path: Path, mend: str) -> None:
    """Refuses what the library would put into a chat template: texts of a directory that it has not written, where the
    tokenizer has one. `mend` says what else helps. Raises `ModelError`."""
    if (path / MODULES_FILE).is_file():
        return
    config = _decode(path, _TOKENIZER_FILE, dict[str, Any]) if (path / _TOKENIZER_FILE).is_file() else {}
    file = _TEMPLATE_FILE if (path / _TEMPLATE_FILE).is_file() else _TOKENIZER_FILE
    if file == _TEMPLATE_FILE or config.get("chat_template"):
        raise ModelError(
            f"{file} of the model has a chat template, and without {MODULES_FILE} sentence-transformers would put each "
            f"text into it: that is not supported; {mend}"
        )


def _refuse_more(file: str, field: str, arguments: Mapping[str, Any], known: frozenset[str] | set[str]) -> None:
    if more := sorted(arguments.keys() - known):
        raise ModelError(f"{file}: {field} has {more[0]!r}, which is not supported")


def _default_modules(path: Path) -> tuple[Module, ...]:
    """What the library makes of a directory that it has not written: the mean, of a language model the last token."""
    config = _decode(path, "config.json", dict[str, Any]) if (path / "config.json").is_file() else {}
    named = (config.get("architectures") or [""])[0]
    causal = str(named).endswith("ForCausalLM") and config.get("is_causal", True)
    mode = b'{"pooling_mode": "lasttoken"}' if causal else b'{"pooling_mode": "mean"}'
    return Module("Transformer", ""), Module("Pooling", "", mode)


def _first(path: Path, folder: str, names: tuple[str, ...]) -> str | None:
    """The first of the files that holds anything, as a path below the model's directory."""
    for name in names:
        file = _join(folder, name)
        if (path / file).is_file() and _decode(path, file, dict[str, Any]):
            return file
    return None


def _below(folder: str, part: str, file: str) -> str:
    joined = PurePosixPath(folder, part)
    if PurePosixPath(part).is_absolute() or ".." in joined.parts or "\\" in part:
        raise ModelError(f"{file} of the model names the folder {part!r}, which is not below the model's directory")
    return "" if joined == PurePosixPath() else joined.as_posix()


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _decode(path: Path, file: str, kind: type[_Read]) -> _Read:
    return decode((path / file).read_bytes(), file, kind)


def decode(data: bytes, file: str, kind: type[_Read]) -> _Read:
    """A file's JSON as `kind`. Raises `ModelError` with its name and field."""
    try:
        return msgspec.convert(json.loads(data), kind)  # not msgspec's decoder: Python's writes Infinity
    except ValueError as error:
        raise ModelError(f"{file} of the model: {error}") from None
