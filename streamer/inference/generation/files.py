"""What a model's files ask of `generate`: generation_config.json, or config.json of a model that has none, and the
entry of config.json's `task_specific_params` that fits the task.

Each field is done as plain `generate` does it for one answer without sampling, changes no answer, or is refused by its
name. Most of this is pure: fields in, fields out.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from transformers import GenerationConfig

from streamer.errors import ModelError
from streamer.inference.models.safety import read_json

# `generate` does these by itself, row by row.
_DONE: Final = frozenset(
    {"max_length", "max_new_tokens", "min_length", "min_new_tokens", "num_beams", "early_stopping", "length_penalty"}
    | {"repetition_penalty", "encoder_repetition_penalty", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size"}
    | {"bad_words_ids", "sequence_bias", "suppress_tokens", "begin_suppress_tokens", "renormalize_logits"}
    | {"forced_bos_token_id", "forced_eos_token_id", "exponential_decay_length_penalty", "stop_strings"}
    | {"pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id", "use_cache"}
)
# Read where an event samples; a pipeline takes the likeliest token until it is asked to.
_SAMPLING: Final = frozenset(
    {"temperature", "top_k", "top_p", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff"}
)
# They change how an answer is computed or handed over, not what it is: one answer is asked for, as its tokens. Greedy
# choice with prompt lookup is greedy choice, and nothing reads a diversity without groups of beams. Values that are not
# numbers are a failure here and not to be papered over.
_HARMLESS: Final = frozenset(
    {"transformers_version", "_from_model_config", "_commit_hash", "cache_implementation", "cache_config"}
    | {"max_cache_len", "prefill_chunk_size", "compile_config", "disable_compile", "low_memory", "return_legacy_cache"}
    | {"continuous_batching_config", "do_sample", "num_return_sequences", "return_dict_in_generate", "output_scores"}
    | {"output_logits", "output_attentions", "output_hidden_states", "prompt_lookup_num_tokens"}
    | {"max_matching_ngram_size", "num_assistant_tokens", "num_assistant_tokens_schedule", "speculation_type"}
    | {"assistant_confidence_threshold", "assistant_lookbehind", "target_lookbehind", "remove_invalid_values"}
    | {"diversity_penalty"}
)
_IDS: Final = frozenset(
    {"pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id", "forced_bos_token_id"}
    | {"forced_eos_token_id"}
)
_COUNTS: Final = {"max_length": 1, "max_new_tokens": 1, "num_beams": 1} | dict.fromkeys(
    ("min_length", "min_new_tokens", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "top_k"), 0
)
_NUMBERS: Final = frozenset(
    {"length_penalty", "repetition_penalty", "encoder_repetition_penalty", "temperature", "top_p", "min_p", "top_h"}
    | {"typical_p", "epsilon_cutoff", "eta_cutoff"}
)
# Values that ask for nothing, of fields that are refused otherwise.
_NEUTRAL: Final[dict[str, tuple[Any, ...]]] = {
    "guidance_scale": (1, 1.0),
    "penalty_alpha": (0, 0.0),
    "num_beam_groups": (1,),
}
_REASONS: Final[dict[str, str]] = {
    "max_time": "an answer would depend on how fast the machine is",
    "penalty_alpha": "contrastive search was removed from transformers",
    "dola_layers": "DoLa was removed from transformers",
    "num_beam_groups": "group beam search was removed from transformers",
    "constraints": "constrained beam search was removed from transformers",
    "force_words_ids": "constrained beam search was removed from transformers",
    "watermarking_config": "answers are not watermarked here",
    "guidance_scale": "it needs a second, unconditional pass for each token",
    "token_healing": "prompts are read as they are",
}
_GENERATION_FILE: Final = "generation_config.json"


def asked_fields(fields: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Those of `fields` that `generate` is to be given. `place` is the file and where in it they stand.

    Raises `ModelError` for a field that can't be done.
    """
    asked = {}
    for name, value in fields.items():
        if name in _DONE or name in _SAMPLING:
            if wanted := _unlike(name, value):
                raise ModelError(f"{place}: {name} must be {wanted}, not {value!r}")
            asked[name] = value
        elif value is None or value is False or name in _HARMLESS or _is_neutral(name, value):
            if name == "cache_implementation" and value in ("quantized", "paged"):
                raise ModelError(f"{place}: cache_implementation is {value!r}, which changes answers: remove it")
        else:
            reason = _REASONS.get(name, "what it does to an answer is not known here")
            raise ModelError(f"{place}: {name} is not supported: {reason}. Remove the field to serve without it")
    return {name: value for name, value in asked.items() if value is not None}


def _unlike(name: str, value: Any) -> str:
    """What the field must be, if it is not that."""
    if value is None:
        return ""
    kinds = {type(one) for one in (value if isinstance(value, list | tuple) and name in _IDS else [value])}
    if name in _IDS and not kinds <= {int}:
        return "a token id or a list of them"
    if name in _COUNTS and (kinds != {int} or value < _COUNTS[name]):
        return f"a whole number of at least {_COUNTS[name]}"
    return "a number" if name in _NUMBERS and not kinds <= {int, float} else ""


def _is_neutral(name: str, value: Any) -> bool:
    return value in ([], {}, "") or value in _NEUTRAL.get(name, ())


def task_entry(config: Any, task: str, prefix: str | None) -> tuple[str, dict[str, Any]]:
    """The entry of config.json's `task_specific_params` that transformers' pipeline applies for the task, and its
    name; ("", {}) where there is none. `prefix` is the option's: one that is an entry's own chooses that entry.

    Raises `ModelError` where several translations fit and no prefix says which.
    """
    entries = getattr(config, "task_specific_params", None)
    if not isinstance(entries, dict):
        return "", {}
    fitting = {
        name: entry
        for name, entry in entries.items()
        if isinstance(entry, dict) and (name == task or (task == "translation" and name.startswith("translation_")))
    }
    if task in fitting:
        fitting = {task: fitting[task]}
    if len(fitting) > 1:
        if prefix is None:
            names = ", ".join(f"{name} ({entry.get('prefix', '')!r})" for name, entry in sorted(fitting.items()))
            raise ModelError(
                f"config.json: task_specific_params has several translations, each with its prefix: set option prefix "
                f"to that of one of {names}"
            )
        fitting = {name: entry for name, entry in fitting.items() if entry.get("prefix", "") == prefix}
    return next(iter(fitting.items()), ("", {})) if len(fitting) == 1 else ("", {})


def read_generation(path: Path, task: str, entry: tuple[str, dict[str, Any]]) -> GenerationConfig:
    """What `generate` is to be given for the model in `path`. Raises `ModelError`."""
    has_file = (path / _GENERATION_FILE).is_file()
    place = _GENERATION_FILE if has_file else "config.json"
    written = read_json(path / place)
    try:
        files = GenerationConfig.from_pretrained(path, config_file_name=place, _from_model_config=not has_file)
    except (ValueError, TypeError) as error:
        raise ModelError(f"{place}: transformers refuses its generation fields: {error}") from None
    # Of config.json, transformers takes what it knows and leaves the network's own fields.
    known = files.to_dict() if not has_file else {**files.to_dict(), **written}
    fields = asked_fields(known, place)
    name, own = entry
    if name:
        own = {key: value for key, value in own.items() if key != "prefix"}
        if task == "text-generation":  # transformers' pipeline writes up to max_new_tokens whatever this says
            own.pop("max_length", None)
        fields |= asked_fields(own, f"config.json: task_specific_params.{name}")
    try:
        return GenerationConfig(**fields)  # type: ignore[no-untyped-call]
    except (ValueError, TypeError) as error:
        raise ModelError(f"{place}: transformers refuses its generation fields: {error}") from None


def least_of(files: GenerationConfig, known: int, most: int, min_length: int | None = None) -> dict[str, int]:
    """The least lengths to ask of `generate` behind `known` tokens, none beyond the `most` that it may write. An
    option's `min_length` goes before all that the files say."""
    if min_length is not None:
        return {"min_new_tokens": min(most, max(0, min_length - known))}
    least = {}
    if files.min_length is not None:
        least["min_length"] = min(int(files.min_length), known + most)
    if files.min_new_tokens is not None:
        least["min_new_tokens"] = min(int(files.min_new_tokens), most)
    return least


def ids_of(*named: Any) -> list[int]:
    """Token ids of fields that hold None, one or several, each once and in order."""
    found: dict[int, None] = {}
    for one in named:
        several = one if isinstance(one, list | tuple) else [one]
        found |= {int(token): None for token in several if token is not None}
    return list(found)
