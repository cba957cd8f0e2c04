"""What can be told of a model before it is loaded: what it is, its files, and what of them is refused or ignored."""

from __future__ import annotations

import fnmatch
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from streamer.errors import ModelError
from streamer.inference.models.adapter import WEIGHTS, adapted, revision_of
from streamer.inference.models.class_source import find_module
from streamer.inference.models.formats import RUNS_CODE
from streamer.inference.models.intact import INDEX, read_header
from streamer.inference.models.model_json import join
from streamer.inference.models.quantised import method_of, numbers_in
from streamer.inference.models.reference import Located, Null, PythonClass, ServedModelUrl, resolve
from streamer.inference.models.safety import SAFE_PATTERNS, digest, read_json, used_files
from streamer.inference.models.sentence_files import MODULES_FILE, read_sentence_files
from streamer.inference.models.task_of import TaskOf, label_names, task_of

LIBRARIES_BYTES: Final = 600_000_000
"""What a worker holds beside its model: torch, transformers and Python."""
_BYTES_A_PARAMETER: Final = 4  # every network is loaded in float32 first
_TOKENIZERS: Final = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model", "*.spm")
_OTHER_FORMATS: Final = ("*.gguf", "*.onnx", "*.tflite", "saved_model.pb", "openvino_model.*")
_SERVER: Final = "a server does not say; name it with --task, and the API with --set backend=openai or tei"
_CLASS: Final = "a class names no task; this is the word that its results carry"
_ENDLESS: Final = 1 << 20  # what stands in tokenizer_config.json for "no limit" is larger
_NAMED: Final = 3


class File(msgspec.Struct, frozen=True):
    """A file that is loaded, relative to the model's directory."""

    name: str
    size_bytes: int


class AboutAdapter(msgspec.Struct, frozen=True):
    """An adapter as its files say it is. `rank` is that of most layers."""

    name: str
    place: str
    revision: str
    rank: int
    tensors: int
    size_bytes: int


class About(msgspec.Struct, frozen=True):
    """A model as its files say it is. `failure` says why it can't be served; what is not known is empty. `max_tokens`
    is what the files say: a load may find that the network reads fewer."""

    kind: str
    name: str
    place: str
    task: TaskOf
    architecture: str = ""
    labels: tuple[str, ...] = ()
    max_tokens: int = 0
    parameters: int = 0
    dtype: str = ""
    worker_bytes: int = 0
    files: tuple[File, ...] = ()
    revision: str = ""
    mask_token: str = ""
    warnings: tuple[str, ...] = ()
    failure: str = ""
    adapter: AboutAdapter | None = None


def look(reference: str) -> About:
    """What can be told without loading it. Raises `ModelError` for a reference that leads nowhere."""
    found = resolve(reference)
    if isinstance(found, Null):
        return About("builtin", "null", "", TaskOf("null", (), "any task will do"))
    if isinstance(found, PythonClass):
        return _look_at_class(found)
    if isinstance(found, ServedModelUrl):
        return About("server", found.url, found.url, TaskOf("", (), _SERVER))
    return _look_at_files(reference, found)


def least_worker_bytes(reference: str) -> int:
    """What a worker holds on a CPU, by the weights' own size; 0 where that is not known. Reads no weights."""
    try:
        found = resolve(reference)
        files = [found.path / name for name in used_files(found.path)] if isinstance(found, Located) else []
        weights = sum(file.stat().st_size for file in files if file.suffix == ".safetensors")
    except (ModelError, OSError):
        return 0
    return LIBRARIES_BYTES + weights if weights else 0


def look_with(about: About, model: str, reference: str, task: str) -> About:
    """The same with an adapter, whose files decide answers, too; `failure` says why it does not fit."""
    located = resolve(model)
    try:
        if about.failure or not isinstance(located, Located):
            return about
        located = adapted(located, model, reference, task)
        assert located.adapter is not None
    except ModelError as error:
        return msgspec.structs.replace(about, failure=str(error))
    own = located.adapter
    told = AboutAdapter(
        own.name, str(own.path), own.revision, own.config.r, len(own.tensors), (own.path / WEIGHTS).stat().st_size
    )
    revision = revision_of(located, [file.name for file in about.files])
    return msgspec.structs.replace(about, revision=revision, adapter=told)


def _look_at_class(found: PythonClass) -> About:
    spec = find_module(found.module)
    place = (spec.origin if spec else None) or ""
    return About("class", f"{found.module}:{found.name}", place, TaskOf("custom", (), _CLASS))


def _look_at_files(reference: str, found: Located) -> About:
    kind = "package" if reference.startswith("package:") else "hub" if "@" in reference else "directory"
    path, failure, revision = found.path, "", ""
    try:
        names = used_files(path)
        revision = digest(path, names)
    except ModelError as error:
        failure, names = str(error), sorted(_loadable(path))
    files = tuple(File(name, (path / name).stat().st_size) for name in names)
    try:
        task = task_of(path)
        config, folder = _network(path, task.task)
        labels, most = tuple(label_names(config)), _max_tokens(path, folder, config)
    except ModelError as error:
        failure = failure or str(error)
        task, config, labels, most = TaskOf("", (), failure), {}, (), 0
    parameters, dtype = _weights(path, names)
    return About(
        kind,
        found.name,
        str(path),
        task,
        architecture=_architecture(config),
        labels=labels if "classification" in " ".join(task.tasks) else (),
        max_tokens=most,
        parameters=parameters,
        dtype=dtype,
        worker_bytes=LIBRARIES_BYTES + parameters * _BYTES_A_PARAMETER,
        files=files,
        revision=revision,
        mask_token=_mask_token(path) if "fill-mask" in task.tasks else "",
        warnings=tuple(_warnings(path, names, config, labels)),
        failure=failure,
    )


def _loadable(path: Path) -> Iterator[str]:
    for pattern in SAFE_PATTERNS:
        yield from (file.name for file in path.glob(pattern) if file.is_file())


def _network(path: Path, task: str) -> tuple[dict[str, Any], str]:
    """The configuration of the network, and the folder that it is in."""
    folder = ""
    if (path / MODULES_FILE).is_file():
        folder = read_sentence_files(path, "CrossEncoder" if task == "rerank" else "SentenceTransformer").layout.folder
    return read_json(path / join(folder, "config.json")), folder


def _max_tokens(path: Path, folder: str, config: dict[str, Any]) -> int:
    """The least of what the files say; 0 where they set no limit."""
    said = [config.get("max_position_embeddings"), config.get("n_positions")]
    said.append(read_json(path / join(folder, "tokenizer_config.json")).get("model_max_length"))
    if (path / MODULES_FILE).is_file():
        said.append(read_json(path / join(folder, "sentence_bert_config.json")).get("max_seq_length"))
    limits = [int(one) for one in said if isinstance(one, int | float) and 0 < one < _ENDLESS]
    return min(limits, default=0)


def _mask_token(path: Path) -> str:
    found = read_json(path / "tokenizer_config.json").get("mask_token")
    return str(found.get("content") if isinstance(found, dict) else found or "[MASK]")


def _weights(path: Path, names: list[str]) -> tuple[int, str]:
    """How many numbers there are, and in which dtype most are."""
    count: Counter[str] = Counter()
    packed = bool(method_of(read_json(path / "config.json")))
    for name in names:
        if name.endswith(".safetensors") and not name.endswith(INDEX):
            try:
                for tensor in read_header(path / name).values():
                    held = numbers_in(tensor["dtype"], packed=packed)
                    count[str(tensor["dtype"])] += math.prod(tensor["shape"]) * held
            except (ModelError, LookupError, TypeError):
                return 0, ""
    most = count.most_common(1)
    return count.total(), most[0][0] if most else ""


def _architecture(config: dict[str, Any]) -> str:
    named = ", ".join(map(str, config.get("architectures") or ())) or str(config.get("model_type") or "")
    text = config.get("text_config")
    sizes = config | text if isinstance(text, dict) else config
    layers = sizes.get("num_hidden_layers") or sizes.get("n_layer") or sizes.get("num_layers") or sizes.get("n_layers")
    width = sizes.get("hidden_size") or sizes.get("n_embd") or sizes.get("d_model") or sizes.get("dim")
    return f"{named}, {layers} layers of {width}" if named and layers and width else named


def _warnings(path: Path, names: list[str], config: dict[str, Any], labels: tuple[str, ...]) -> Iterator[str]:
    """What of the files is ignored, or will make answers harder to read."""
    others = sorted(
        file.relative_to(path).as_posix() for pattern in ("*", "*/*") for file in path.glob(pattern) if file.is_file()
    )
    others = [name for name in others if name not in names and not name.startswith(".")]
    for patterns, why in (
        (RUNS_CODE, "formats that can run code when they are loaded"),
        (("*.py",), "the model's own code is never run"),
        (_OTHER_FORMATS, "only safetensors are loaded"),
        (("*.safetensors",), "they are not of the network that is loaded"),
    ):
        ignored = [name for name in others if any(fnmatch.fnmatch(Path(name).name, one) for one in patterns)]
        if ignored:
            more = f" and {len(ignored) - _NAMED} more" if len(ignored) > _NAMED else ""
            yield f"ignored: {', '.join(ignored[:_NAMED])}{more} ({why})"
    if method := method_of(config):
        yield f"the weights are quantised by {method}: they are made plain when they are loaded"
    if config.get("auto_map"):
        yield "config.json has auto_map, which names code of the model's: it is never run"
    if not any(fnmatch.fnmatch(Path(name).name, pattern) for name in names for pattern in _TOKENIZERS):
        yield "there is no tokenizer: save it next to the network (tokenizer.save_pretrained)"
    if len(labels) > 1 and all(label == f"LABEL_{number}" for number, label in enumerate(labels)):
        yield "labels are LABEL_0 and so on, and results will say so: name them in id2label of config.json"
