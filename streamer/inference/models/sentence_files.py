"""What the files of a sentence-transformers directory say, read strictly into values: modules, prompts, similarity.

A directory is served as `SentenceTransformer.encode` or `CrossEncoder.predict` of sentence-transformers 6.2 serve it,
or refused by file and field. Nothing here imports torch or that library.
"""

from __future__ import annotations

import ast
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Final, Literal

import msgspec

from streamer.errors import ModelError
from streamer.inference.models.model_json import first_of, join, read
from streamer.inference.models.transformer_file import Layout, read_layout

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

_TEMPLATE_FILE: Final = "chat_template.jinja"
_TOKENIZER_FILE: Final = "tokenizer_config.json"
_INPUTS: Final = ("Transformer", "StaticEmbedding")
_ROUTER_FILES: Final = ("router_config.json", "config.json")


class Module(msgspec.Struct, frozen=True):
    """One step from a text to its vector. `folder` is below the model's directory, "" for itself; `config` is what the
    module's own file says, None where there is none."""

    kind: str
    folder: str
    config: bytes | None = None

    @property
    def file(self) -> str:
        """What messages call the module's own file."""
        return join(self.folder, "config.json")


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
        if CLASSES.get(type_name) == "Router" and (file := first_of(path, folder, _ROUTER_FILES)):
            router = read(path, file, _Router)
            waiting += [(named, _below(folder, part, file)) for part, named in router.types.items()]
    return sorted(set(folders))


def read_sentence_files(path: Path, kind: ModelType, route: str | None = None) -> SentenceFiles:
    """What sentence-transformers would make of the directory. `route` is the task by which its routers choose. Raises
    `ModelError` for what can't be done."""
    if not (path / MODULES_FILE).is_file():  # then the library reads none of its own files either
        if route is not None:
            raise ModelError(f"option route is for models with a Router, and the model has no {MODULES_FILE}")
        return SentenceFiles(_default_modules(path), Layout(), {}, "", "cosine", None, None)
    settings = read(path, CONFIG_FILE, _Settings) if (path / CONFIG_FILE).is_file() else _Settings()
    if settings.model_type != kind:
        raise ModelError(
            f"{CONFIG_FILE} of the model: model_type is {settings.model_type!r}, and the task needs {kind!r}"
        )
    entries = _entries(path)
    if route is not None and not any(CLASSES.get(entry.type) == "Router" for entry in entries):
        raise ModelError(f"option route is for models with a Router, and {MODULES_FILE} names none")
    modules = tuple(
        module for entry in entries for module in _resolved(path, entry.type, entry.path, MODULES_FILE, route)
    )
    first, *others = modules
    if first.kind not in _INPUTS or any(one.kind in _INPUTS for one in others):
        raise ModelError(
            f"{MODULES_FILE} of the model needs one Transformer or StaticEmbedding, and as its first module"
        )
    if first.kind == "Transformer" and first.config is None:
        raise ModelError(f"the model lacks {first.file}, which its Transformer is loaded from")
    prompts = {name: text or "" for name, text in settings.prompts.items()}
    # The library has these two names for every such model.
    known = prompts if kind == "CrossEncoder" else {"query": "", "document": ""} | prompts
    default = settings.default_prompt_name
    if default is not None and default not in known:
        raise ModelError(f"{CONFIG_FILE} of the model: default_prompt_name {default!r} is not among its prompts")
    return SentenceFiles(
        modules,
        read_layout(path, first.folder, scores=kind == "CrossEncoder"),
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
    truncate_dim: Annotated[int, msgspec.Meta(ge=1)] | None = None
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


def _entries(path: Path) -> list[_Entry]:
    entries = read(path, MODULES_FILE, list[_Entry])
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
    router_file = first_of(path, folder, _ROUTER_FILES)
    if router_file is None:
        raise ModelError(f"the model lacks {join(folder, _ROUTER_FILES[0])}, which its Router is read from")
    router = read(path, router_file, _Router)
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
            mappings[one, modality] = target
        except (ValueError, SyntaxError, TypeError):
            raise ModelError(f"{file} of the model: route_mappings has the key {key!r}, which is not a pair") from None
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


def refuse_template(path: Path, fix: str) -> None:
    """Refuses what the library would put into a chat template: texts of a directory that it has not written, where the
    tokenizer has one. `fix` says what else helps. Raises `ModelError`."""
    if (path / MODULES_FILE).is_file():
        return
    config = read(path, _TOKENIZER_FILE, dict[str, Any]) if (path / _TOKENIZER_FILE).is_file() else {}
    file = _TEMPLATE_FILE if (path / _TEMPLATE_FILE).is_file() else _TOKENIZER_FILE
    if file == _TEMPLATE_FILE or config.get("chat_template"):
        raise ModelError(
            f"{file} of the model has a chat template, and without {MODULES_FILE} sentence-transformers would put each "
            f"text into it: that is not supported; {fix}"
        )


def _default_modules(path: Path) -> tuple[Module, ...]:
    """What the library makes of a directory that it has not written: the mean, of a language model the last token."""
    config = read(path, "config.json", dict[str, Any]) if (path / "config.json").is_file() else {}
    named = (config.get("architectures") or [""])[0]
    causal = str(named).endswith("ForCausalLM") and config.get("is_causal", True)
    mode = b'{"pooling_mode": "lasttoken"}' if causal else b'{"pooling_mode": "mean"}'
    return Module("Transformer", ""), Module("Pooling", "", mode)


def _below(folder: str, part: str, file: str) -> str:
    joined = PurePosixPath(folder, part)
    inside = file == MODULES_FILE or joined != PurePosixPath(folder)  # a router is in no folder of its own parts
    if PurePosixPath(part).is_absolute() or ".." in joined.parts or "\\" in part or not inside:
        raise ModelError(f"{file} of the model names the folder {part!r}, which is not below the model's directory")
    return "" if joined == PurePosixPath() else joined.as_posix()
