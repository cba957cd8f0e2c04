"""A LoRA adapter's files: what they change of a network, read strictly and without torch.

`adapter_config.json` says which layers and by how much, `adapter_model.safetensors` holds the weights. What is not
understood is refused with the file and the field.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from streamer.errors import ModelError
from streamer.inference.models.formats import ADAPTER, RUNS_CODE
from streamer.inference.models.intact import read_header, refuse_broken
from streamer.inference.models.model_json import parse
from streamer.inference.models.reference import HubModel, Located, is_absent, resolve
from streamer.inference.models.reference import parse as parse_reference
from streamer.inference.models.safety import digest, read_json

WEIGHTS: Final = "adapter_model.safetensors"
PREFIX: Final = "base_model.model."
_FLOATS: Final = ("F32", "F16", "BF16", "F64")
# What says how an adapter was trained, and changes no number of one that is there.
_TRAINING: Final = frozenset(
    {"lora_dropout", "inference_mode", "auto_mapping", "peft_version", "megatron_core", "qalora_group_size"}
    | {"loftq_config", "eva_config", "runtime_config"}
)
# Beginnings that leave the network's own weights as they are. Others (PiSSA, OLoRA, LoftQ …) change those, too.
_BEGINNINGS: Final = (True, False, "gaussian", "eva", "orthogonal")
# Variants of LoRA that compute something else; "off" in a configuration is null, false or empty.
_OFF: Final[tuple[Any, ...]] = (None, False, [], {}, "")
_HEADS: Final = {
    "SEQ_CLS": ("text-classification", "rerank", "zero-shot-classification"),
    "TOKEN_CLS": ("token-classification",),
    "QUESTION_ANS": ("question-answering",),
}
_TASKS: Final = _HEADS | {
    "CAUSAL_LM": ("text-generation", "scoring"),
    "SEQ_2_SEQ_LM": ("summarization", "translation", "text2text-generation"),
    "FEATURE_EXTRACTION": ("embedding", "similarity", "zero-shot-classification"),
}
_REPOSITORY: Final = re.compile(r"[\w-][\w.-]*/[\w.-]+")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")

log = logging.getLogger(__name__)


class LoraConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`adapter_config.json`. Names of modules are matched as peft does."""

    peft_type: Literal["LORA"]
    r: int
    lora_alpha: float
    target_modules: list[str] | str
    exclude_modules: list[str] | str | None = None
    task_type: str | None = None
    base_model_name_or_path: str | None = None
    revision: str | None = None
    use_rslora: bool = False
    fan_in_fan_out: bool = False
    bias: Literal["none", "all", "lora_only"] = "none"
    modules_to_save: list[str] | None = None
    layers_to_transform: list[int] | int | None = None
    layers_pattern: list[str] | str | None = None
    rank_pattern: dict[str, int] | None = None
    alpha_pattern: dict[str, float] | None = None

    def targets(self, module: str) -> bool:
        """Whether the module of this name has LoRA weights."""
        if _named(module, self.exclude_modules or []) or any(
            re.match(rf"(^|.*\.){name}($|\..*)", module) for name in self.modules_to_save or ()
        ):
            return False
        if not _named(module, self.target_modules) or isinstance(self.target_modules, str):
            return _named(module, self.target_modules)
        return self.layers_to_transform in (None, []) or self._layer(module) in _listed(self.layers_to_transform)

    def saves(self, module: str) -> str:
        """The name in modules_to_save by which the module was trained whole; "" where it was not."""
        return next((name for name in self.modules_to_save or () if module.endswith(name)), "")

    def rank(self, module: str) -> int:
        """Of a module's two matrices."""
        return int(_patterned(self.rank_pattern or {}, module, self.r))

    def scale(self, module: str) -> float:
        """What the product of the two is multiplied by."""
        alpha, rank = _patterned(self.alpha_pattern or {}, module, self.lora_alpha), self.rank(module)
        return float(alpha / (rank**0.5 if self.use_rslora else rank))

    def _layer(self, module: str) -> int | None:
        """The number of the layer that a module is in."""
        patterns = _listed(self.layers_pattern or None)
        for pattern in [rf"(?:^|.*?\.){one}\.(\d+)\." for one in patterns] or [r".*?\.[^.]*\.(\d+)\."]:
            if match := re.match(pattern, module):
                return int(match[1])
        return None


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA adapter whose files are whole. `revision` is their digest, `tensors` the names of its weights as the
    network's parameters are named, with what follows them."""

    path: Path
    name: str
    revision: str
    config: LoraConfig
    tensors: frozenset[str]

    @property
    def brings_head(self) -> bool:
        """Whether it was trained with a head of its own, so that the model may have another one, or none."""
        return self.config.task_type in _HEADS and bool(self.config.modules_to_save)


def adapted(located: Located, model: str, adapter: str, task: str) -> Located:
    """The model `located`, which the user calls `model`, with the adapter of this reference; "" adds none. Raises
    `ModelError` for an adapter that can't be understood, or is for another model or task."""
    if not adapter:
        return located
    found = open_adapter(adapter)
    refuse_other_task(found, task)
    _refuse_other_base(found, model, located)
    _refuse_other_texts(found.path, located.path)
    return replace(located, name=f"{located.name}+{found.name}", adapter=found)


def open_adapter(reference: str) -> Adapter:
    """Read and check an adapter's files. Raises `ModelError`."""
    try:
        located = resolve(reference)
    except ModelError as error:
        words = re.sub(r"a model is .*", "an adapter is a directory or org/name@REVISION", str(error))
        raise ModelError(words.replace("model ", "adapter ", 1)) from None
    if not isinstance(located, Located):
        raise ModelError(f"adapter {reference!r} must be a directory, package:NAME/SUBDIR or org/name@REVISION")
    path = located.path
    if not (path / ADAPTER).is_file():
        raise ModelError(f"adapter {path} has no {ADAPTER}: save it with peft (save_pretrained)")
    if not (path / WEIGHTS).is_file():
        others = sorted(file.name for pattern in RUNS_CODE for file in path.glob(pattern))
        has = f"has its weights only in {others[0]}, which can run code when it is loaded" if others else "has none"
        raise ModelError(f"adapter {path} needs {WEIGHTS} and {has}: save it again (save_pretrained)")
    names = [ADAPTER, WEIGHTS]
    refuse_broken(path, names)
    config = _read(path)
    return Adapter(path, located.name, digest(path, names), config, frozenset(_names(path / WEIGHTS)))


def adapter_problem(reference: str, model: str, task: str, *, downloads: bool = False) -> str:
    """What a start would stumble over, with the fix; "" where nothing is wrong, or can't be told yet."""
    try:
        if not reference or (downloads and is_absent(reference)):
            return ""
        if downloads and is_absent(model):
            refuse_other_task(open_adapter(reference), task)
        elif isinstance(located := resolve(model), Located):
            adapted(located, model, reference, task)
    except ModelError as error:
        return str(error)
    except OSError as error:
        return f"{error.filename} can't be read ({error.strerror}); let this user read the adapter's files"
    return ""


def revision_of(located: Located, names: list[str]) -> str:
    """The digest of a model's files `names`, and of its adapter's."""
    own = digest(located.path, names)
    return own if located.adapter is None else sha256(f"{own} {located.adapter.revision}".encode()).hexdigest()


# --- adapter_config.json ---------------------------------------------------------------------------------------------


def _read(path: Path) -> LoraConfig:
    file, fields = path / ADAPTER, read_json(path / ADAPTER)
    kind = fields.get("peft_type")
    if kind != "LORA":
        raise ModelError(f"{file}: peft_type is {kind!r}, and only LORA is served; merge it with peft and save that")
    if fields.get("use_dora"):
        raise ModelError(f"{file}: use_dora is true; DoRA is not served: merge it with peft and save that")
    if (begins := fields.pop("init_lora_weights", True)) not in _BEGINNINGS:
        raise ModelError(
            f"{file}: init_lora_weights is {begins!r}, which changes the model's own weights, too; convert it to plain"
            " LoRA with peft (path_initial_model_for_weight_conversion), or merge it and save that"
        )
    known = set(LoraConfig.__struct_fields__)
    for name in sorted(fields.keys() - known - _TRAINING):
        if fields[name] not in _OFF:
            raise ModelError(f"{file}: {name} is not supported; merge the adapter with peft and save that")
    given = {name: value for name, value in fields.items() if name in known and value is not None}
    try:
        config = parse(json.dumps(given).encode(), ADAPTER, LoraConfig)
    except ModelError as error:
        raise ModelError(str(error).replace(f"{ADAPTER} of the model", str(file))) from None
    if config.target_modules == "all-linear":
        raise ModelError(f'{file}: target_modules is "all-linear"; write the list of modules that peft made of it')
    ranks = [config.r, *(config.rank_pattern or {}).values()]
    if min(ranks) < 1:
        raise ModelError(f"{file}: r and rank_pattern must be at least 1, not {min(ranks)}")
    _refuse_patterns(config, file)
    return config


def _refuse_patterns(config: LoraConfig, file: Path) -> None:
    """Of regular expressions that are none."""
    named = {
        name: [one] for name in ("target_modules", "exclude_modules") if isinstance(one := getattr(config, name), str)
    }
    named |= {name: list(getattr(config, name) or ()) for name in ("rank_pattern", "alpha_pattern", "modules_to_save")}
    named["layers_pattern"] = _listed(config.layers_pattern)
    for name, patterns in named.items():
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ModelError(f"{file}: {name} has {pattern!r}, which is no regular expression ({error})") from None


def _named(module: str, names: list[str] | str) -> bool:
    """By a regular expression for the whole name, or by the end of it."""
    if isinstance(names, str):
        return re.fullmatch(names, module) is not None
    return module in names or any(module.endswith(f".{name}") for name in names)


def _patterned(patterns: dict[str, Any], module: str, default: Any) -> Any:
    return next((value for key, value in patterns.items() if re.match(rf"(.*\.)?({key})$", module)), default)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


# --- adapter_model.safetensors ---------------------------------------------------------------------------------------


def _names(file: Path) -> Iterator[str]:
    for name, tensor in read_header(file).items():
        if not name.startswith(PREFIX):
            raise ModelError(f"{file}: {name!r} does not begin with {PREFIX}; save the adapter with peft")
        if tensor["dtype"] not in _FLOATS:
            raise ModelError(f"{file}: {name} is of {tensor['dtype']}, and must be of {', '.join(_FLOATS)}")
        yield name.removeprefix(PREFIX)


# --- whether it fits the model ---------------------------------------------------------------------------------------


def refuse_other_task(adapter: Adapter, task: str) -> None:
    """Raise `ModelError` for an adapter that was trained with another head than the task reads."""
    kind = adapter.config.task_type
    if kind is None:
        return
    tasks = _TASKS.get(kind)
    if tasks is None:
        raise ModelError(f"{adapter.path / ADAPTER}: task_type {kind!r} is unknown; it may be {', '.join(_TASKS)}")
    if task not in tasks:
        raise ModelError(
            f"{adapter.path / ADAPTER}: task_type is {kind}, and the task is {task}: it is for {_or(tasks)}"
        )


def _refuse_other_base(adapter: Adapter, reference: str, model: Located) -> None:
    """Of an adapter that names another model. Where one of both is a directory, a name proves nothing: it is only
    said."""
    config, file = adapter.config, adapter.path / ADAPTER
    named = config.base_model_name_or_path or ""
    given = parse_reference(reference)
    fix = "name that model, or correct the field if it is the same one"
    if isinstance(given, HubModel) and _REPOSITORY.fullmatch(named):
        if named.lower() != given.repository.lower():
            raise ModelError(f"{file}: base_model_name_or_path is {named}, and the model is {given.repository}; {fix}")
        if config.revision and _COMMIT.fullmatch(config.revision) and config.revision != given.revision:
            raise ModelError(f"{file}: revision is {config.revision}, and the model's is {given.revision}; {fix}")
    elif Path(named or ".").name.lower() not in {part.lower() for part in (model.path.name, Path(model.name).name)}:
        says = f"was trained on {named}" if named else "does not say what model it was trained on"
        log.warning("adapter %s %s: nothing tells whether %s is that model", adapter.name, says, model.name)


def _refuse_other_texts(adapter: Path, model: Path) -> None:
    """Of an adapter that has a tokenizer, a chat template or modules of its own, which say something else than the
    model's: an adapter's are not read."""
    for name, meaning in _TEXTS.items():
        own, others = meaning(adapter), meaning(model)
        if own and own != others:
            raise ModelError(
                f"{adapter / name} differs from that of the model, {model}, which is read: copy it there if the adapter"
                " was trained with it, else delete it here"
            )


def _tokenizer(path: Path) -> Any:
    """Which tokens there are, and their numbers: releases write the rest in several ways."""
    found = read_json(path / "tokenizer.json")
    added = [(one.get("id"), one.get("content")) for one in found.get("added_tokens") or ()]
    return found and (found.get("model", {}).get("vocab"), sorted(added))


def _chat_template(path: Path) -> Any:
    file = path / "chat_template.jinja"
    return file.read_text() if file.is_file() else read_json(path / "tokenizer_config.json").get("chat_template")


def _modules(path: Path) -> Any:
    file = path / "modules.json"
    return [(one["type"], one["path"]) for one in json.loads(file.read_bytes())] if file.is_file() else None


_TEXTS: Final = {"tokenizer.json": _tokenizer, "chat_template.jinja": _chat_template, "modules.json": _modules}


def _or(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else last
