"""What a sentence-transformers directory says of its transformer: where it lies, and what is asked of its texts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from streamer.errors import ModelError
from streamer.inference.models.model_json import first_of, read

# In this order; the first that holds anything counts.
_TRANSFORMER_FILES: Final = tuple(
    f"sentence_{name}_config.json"
    for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
# Where the hub's client finds the files, which are here already.
_HUB_FIELDS: Final = frozenset(
    {"cache_dir", "force_download", "local_files_only", "revision", "subfolder", "token", "trust_remote_code"}
)
# Fields of arguments for the network that change nothing of its hidden states in the dtype that the pipeline says.
_HARMLESS_FIELDS: Final = _HUB_FIELDS | {"add_pooling_layer", "dtype", "torch_dtype", "use_safetensors"}
# A row is answered as it is alone, whichever side it is padded on.
_HARMLESS_OF_TOKENIZER: Final = {"model_max_length", "padding_side", "use_fast"}
# Ways of attention, which differ in speed.
_WAYS: Final = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention")
# What the two kinds of models are loaded for, what is read of the network, and what later modules know it by.
_HIDDEN_STATES: Final = ("feature-extraction", "last_hidden_state", "token_embeddings")
_SCORES: Final = ("sequence-classification", "logits", "scores")


class Layout(msgspec.Struct, frozen=True):
    """Where a model's network and tokenizer lie below its directory, and what files beside theirs ask of a text.
    `max_tokens` stands in for the tokenizer's own limit; `lower_case` makes all letters small before anything else."""

    folder: str = ""
    max_tokens: int | None = None
    lower_case: bool = False


class _TransformerFile(msgspec.Struct, forbid_unknown_fields=True):
    """`sentence_bert_config.json` and its kin."""

    max_seq_length: int | None = None
    do_lower_case: bool | None = None
    transformer_task: str | None = None
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


def read_layout(path: Path, folder: str, *, scores: bool) -> Layout:
    """What is said of the transformer in `folder` below `path`; `scores` where the task needs those of its head, not
    its hidden states. Raises `ModelError` for what can't be done."""
    name = first_of(path, folder, _TRANSFORMER_FILES)
    if name is None:
        return Layout(folder)
    said, file = read(path, name, _TransformerFile), f"{name} of the model"
    task, output, gives = _SCORES if scores else _HIDDEN_STATES
    for field, value, needed in (
        ("transformer_task", said.transformer_task or _HIDDEN_STATES[0], task),
        ("module_output_name", said.module_output_name or gives, gives),
    ):
        if value != needed:
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
    if of_network.get("attn_implementation") in _WAYS:
        del of_network["attn_implementation"]
    _refuse_more(file, "model_args", of_network, _HARMLESS_FIELDS)
    _refuse_more(file, "config_args", said.config_args | said.config_kwargs, _HUB_FIELDS | {"use_cache"})
    of_tokenizer = said.tokenizer_args | said.processor_kwargs
    _refuse_more(file, "tokenizer_args", of_tokenizer, _HUB_FIELDS | _HARMLESS_OF_TOKENIZER)
    of_texts = {key: value for key, value in (said.processing_kwargs or {}).items() if value}
    _refuse_more(file, "processing_kwargs", of_texts, {"image", "audio", "video", "chat_template"})
    most = of_tokenizer.get("model_max_length", said.max_seq_length)
    if most is not None and (type(most) is not int or most < 1):
        raise ModelError(f"{file}: max_seq_length must be a whole number of tokens, not {most!r}")
    return Layout(folder, most, bool(said.do_lower_case))


def _refuse_more(file: str, field: str, arguments: Mapping[str, Any], known: frozenset[str] | set[str]) -> None:
    if more := sorted(arguments.keys() - known):
        raise ModelError(f"{file}: {field} has {more[0]!r}, which is not supported")
