"""A model's own files, loaded as they say or refused: configuration and network.

What is served is what the files ask for. No weight is made up, no code of the model's runs, and nothing that
transformers would forgive in silence is forgiven here.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import CONFIG_MAPPING, AutoConfig

from streamer.errors import BrokenModelError, MissingExtraError, ModelError
from streamer.inference.models import heads
from streamer.inference.models.adapter import Adapter
from streamer.inference.models.intact import read_header
from streamer.inference.models.lora import merge, whole_weights
from streamer.inference.models.own_pages import own_weights
from streamer.inference.models.quantised import FIELD, refuse_experts
from streamer.inference.models.reading import read_network
from streamer.inference.models.safety import read_json
from streamer.inference.models.tokenizer_files import load_tokenizer

__all__ = ["load_config", "load_network", "load_tokenizer"]

_SPARSE = frozenset({"big_bird", "bigbird_pegasus"})

log = logging.getLogger(__name__)

_WEIGHTS = "model.safetensors"
_CPU = torch.device("cpu")
_FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
# Ways of attention that need a package or a GPU: what they compute is what the default does, faster.
_FASTER = ("flash_attention", "flex_attention", "paged|")


def load_config(path: Path) -> Any:
    """The network's configuration. Raises `ModelError`."""
    file = path / "config.json"
    fields = read_json(file)
    kind = fields.get("model_type")
    if not kind:
        raise ModelError(f"{file} has no model_type: it is not the configuration of a transformers model")
    if kind not in CONFIG_MAPPING:
        own = ", and auto_map asks to run the model's own code, which is refused" if fields.get("auto_map") else ""
        raise ModelError(f"{file} has model_type {kind!r}, which this release of transformers does not know{own}")
    if fields.get("attention_type", "block_sparse" if kind in _SPARSE else None) == "block_sparse":
        raise ModelError(
            f"{file} has attention_type 'block_sparse', by its own word or by default: at the first short text "
            "transformers makes such a network attend to everything for good, and answers would hang on the texts "
            "before them; write 'original_full'"
        )
    other = next((name for name in fields.get("architectures") or () if not hasattr(transformers, str(name))), None)
    if fields.get("auto_map") and other:
        raise ModelError(
            f"{file} has the architecture {other}, which is the model's own code (auto_map) and is not run: the "
            f"{kind} of transformers, which would be loaded in its place, is another network"
        )
    labels, count = fields.get("id2label"), fields.get("num_labels")
    if labels and count is not None and len(labels) != count:
        raise ModelError(f"{file} has num_labels = {count}, but {len(labels)} names in id2label: correct one of them")
    try:
        config = AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # of transformers and of its validators, of many kinds
        raise ModelError(f"{file} is refused by transformers: {_words(error)}") from error
    # How a network answers its caller is the caller's choice, not its files'.
    config.return_dict, config.output_hidden_states = True, False
    way = config._attn_implementation
    if isinstance(way, str) and way.startswith(_FASTER):
        log.info("%s asks for %s: the default attention computes the same and is taken", kind, way)
        config._attn_implementation = None
    return config


def load_network(
    kind: Any,
    path: Path,
    config: Any,
    *,
    dtype: torch.dtype,
    task: str,
    model: str,
    adapter: Adapter | None = None,
    device: torch.device = _CPU,
) -> Any:
    """The network of the Auto class `kind`, or of a class of transformers itself, in `dtype`, on `device`, in inference
    mode; with the adapter merged.

    Of one without head (`AutoModel`) the caller reads the last hidden state alone. `model` is what the user calls it.
    Raises `ModelError` for a checkpoint of another network, and `BrokenModelError` for weights that are no numbers.
    """
    resolved = _resolve(kind, config, task, model)
    named = [str(name) for name in config.architectures or ()]
    other = heads.other_head(kind.__name__, resolved, named, composite="text_config" in config.sub_configs)
    if other and not (adapter and adapter.brings_head):
        raise ModelError(
            f"{model} can't serve {task}: config.json's architectures name {other}, and the task needs {resolved}"
        )
    weights = str(getattr(config, "transformers_weights", None) or _WEIGHTS)
    if not any((path / name).is_file() for name in (weights, f"{_WEIGHTS}.index.json")):
        there = ", ".join(sorted(file.name for file in path.glob("*.safetensors"))[:3])
        raise ModelError(
            f"{path} has {there or 'no weights'} and neither {weights} nor {_WEIGHTS}.index.json: rename it, or save "
            "the model again (save_pretrained)"
        )
    method = str((getattr(config, FIELD, None) or {}).get("quant_method", ""))
    try:
        # Of mismatched sizes all are told, and refused below.
        network, info = read_network(kind, path, config, dtype, model, ignore_mismatched_sizes=True)
    except MissingExtraError:
        raise
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # of transformers, torch and safetensors, of many kinds
        refuse_experts(method, path, _names(path))
        raise ModelError(f"the network of {path} can't be loaded: {_words(error)}") from error
    known = set(network.state_dict())
    for name, found, expected in sorted(info["mismatched_keys"]):
        raise ModelError(
            f"the weights of {model} have {name} of shape {_shape(found)}, and config.json makes it "
            f"{_shape(expected)}{_field(name)}"
        )
    bare = not heads.has_head(kind.__name__)
    unexpected = set(info["unexpected_keys"])
    brought = whole_weights(adapter.tensors) if adapter else {}
    missing = [name for name in heads.unread(info["missing_keys"], bare=bare) if name not in brought]
    if missing:
        refuse_experts(method, path, _names(path))
        prefix = heads.wrapped_in(missing, unexpected)
        if prefix:
            raise ModelError(
                f"the weights of {model} are named {prefix}{missing[0]}: they were saved with a wrapper around the "
                f"network; take {prefix!r} off their names, or save the network within (save_pretrained)"
            )
        if heads.numbered_beyond(missing[0], known - set(missing)):
            raise ModelError(
                f"the weights of {model} lack {missing[0]}: they are not complete, or config.json has more layers "
                "than they (num_hidden_layers)"
            )
        raise ModelError(f"the weights of {model} lack {missing[0]}: it was not trained for {task}")
    # Of a class that only its author has, what is left over may be what makes its vectors (ColBERT's projection).
    foreign = bool(named) and not any(hasattr(transformers, name) for name in named)
    over = heads.left_over(unexpected, known, network.base_model_prefix, bare=bare and not foreign)
    if over:
        refuse_experts(method, path, _names(path))
    if over and foreign:
        raise ModelError(
            f"the weights of {model} have {over[0]}, which {type(network).__name__} has not, and config.json's "
            f"architectures name {named[0]}, which transformers does not have: it is another network"
        )
    if over:
        raise ModelError(f"the weights of {model} have {over[0]}, {_too_much(over[0], known, resolved)}")
    if not method:
        _refuse_integers(path, network, model)
    if device.type == "cpu":  # a GPU takes them straight from the file
        own_weights(network)  # first, as those that an adapter changes are let go one by one
    if adapter:
        merge(network, adapter, _field)
    _refuse_non_finite(network, model)
    # A pass that nothing follows keeps no state, and some recurrent networks fail to; `generate` asks for its cache.
    if getattr(network.config, "use_cache", None):
        network.config.use_cache = False
    return network.eval().requires_grad_(False).to(device)


def _resolve(kind: Any, config: Any, task: str, model: str) -> str:
    """The class that an Auto class makes of a configuration. Raises `ModelError` where there is none."""
    mapping = getattr(kind, "_model_mapping", None)
    if mapping is None:
        return str(kind.__name__)
    if type(config) not in mapping:
        raise ModelError(f"{model} can't serve {task}: transformers has no {kind.__name__} of {config.model_type}")
    classes = mapping[type(config)]
    names = [str(one.__name__) for one in (classes if isinstance(classes, tuple) else (classes,))]
    return next((name for name in names if name in (config.architectures or ())), names[0])


def _too_much(key: str, known: set[str], resolved: str) -> str:
    if heads.is_adapter(key):
        return "of an adapter: merge it (merge_and_unload) and save the result"
    if heads.numbered_beyond(key, known):
        return "and config.json has fewer layers (num_hidden_layers): one of them belongs to another model"
    return f"which {resolved} has not: config.json or the weights are of another model"


def _field(name: str) -> str:
    """The field of config.json that gives a weight its shape, where its name tells."""
    last = name.rpartition(".")[0]
    if any(part in last for part in ("classifier", "score", "out_proj", "qa_outputs", "logits_proj")):
        return " (id2label or num_labels)"
    if any(part in last for part in ("word_embeddings", "embed_tokens", "wte", "lm_head", "shared", "decoder")):
        return " (vocab_size)"
    return " (max_position_embeddings)" if "position" in last or "wpe" in last else ""


def _shape(shape: Any) -> str:
    return f"({', '.join(map(str, shape))})"


def _names(path: Path) -> Iterator[str]:
    """Of the tensors of a checkpoint."""
    for file in path.glob("*.safetensors"):
        yield from read_header(file)


def _refuse_integers(path: Path, network: Any, model: str) -> None:
    """Whole numbers and 8-bit floats in place of weights are quantised: without their scales they mean nothing."""
    floats = {name for name, weights in network.named_parameters() if weights.is_floating_point()}
    prefix = f"{network.base_model_prefix}."
    for file in path.glob("*.safetensors"):
        for name, tensor in read_header(file).items():
            kind = tensor["dtype"]
            if kind not in _FLOATS and {name, name.removeprefix(prefix), f"{prefix}{name}"} & floats:
                raise ModelError(f"the weights of {model} have {name} as {kind}: they are quantised, without a scale")


def _refuse_non_finite(network: Any, model: str) -> None:
    for name, weights in network.named_parameters():
        if weights.is_floating_point() and weights.numel():
            least, most = torch.aminmax(weights)  # NaN where one number is; many times faster than a look at each
            if not (least.isfinite() and most.isfinite()):
                broken = int((~weights.isfinite()).sum())
                raise BrokenModelError(
                    f"the weights of {model} have NaN or infinity in {name} ({broken} of {weights.numel()} numbers): "
                    "its training diverged, or the file is damaged"
                    + (", or float16 has no such numbers" if weights.dtype is torch.float16 else "")
                )


def _words(error: BaseException) -> str:
    """An exception of transformers in one line; it gives long advice after the first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:2])}" if lines else type(error).__name__
