"""Whether a checkpoint is of the network that a task needs, by the names in config.json and those of its weights.

transformers builds any network over any checkpoint: what is missing is drawn at random, and what is left over is
dropped, in silence. Here each of both is a reason to refuse, unless nothing that the task reads depends on it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Final

# Heads that serve a task's Auto class, as the names of architectures end; the resolved class itself always does.
_SERVE: Final = {
    "AutoModelForSequenceClassification": ("SequenceClassification",),
    "AutoModelForTokenClassification": ("TokenClassification",),
    "AutoModelForQuestionAnswering": ("QuestionAnswering",),
    "AutoModelForMaskedLM": ("MaskedLM", "PreTraining", "LMHead"),
    "AutoModelForCausalLM": ("CausalLM", "LMHead"),
    "AutoModelForSeq2SeqLM": ("ConditionalGeneration", "LMHead", "Bare"),
}
_HEAD = re.compile(r"For([A-Z]\w*)$")
_LM_HEAD = re.compile(r"(LMHeadModel|WithLMHead\w*|DoubleHeadsModel)$")
_TRANSLATOR = re.compile(r"MTModel$")
_BARE = re.compile(r"(Model|Encoder)$")

# What older releases saved and newer ones compute: places, rotations, sinusoids, masks of causal attention.
_COMPUTED = re.compile(
    r"(^|\.)(position_ids|token_type_ids|inv_freq|original_inv_freq|(cos|sin)_cached|masked_bias|causal_mask|version"
    r"|embed_positions\.weights?|relative_position_index|num_batches_tracked|_extra_state"
    r"|(attn|attention|crossattention|self_attention)\.bias|EncDecAttention\.relative_attention_bias\.weight)$"
)
# What pretraining leaves beside a head.
_LEFT_OVER = re.compile(
    r"^(cls\.(seq_relationship|predictions)|(\w+\.)?pooler|(\w+\.)?lm_head|lm_loss|qa_outputs|predictions"
    r"|lm_predictions|mask_predictions|discriminator_predictions|generator_\w+|multiple_choice_head|vocab_\w+"
    r"|(mlm|nsp|sop|mtp)(_\w+)?)\."
)
# Copies of the embedding, where the network has one for all.
_TIED = re.compile(r"(^|\.)(embed_tokens\.weight|lm_head\.weight|decoder\.bias|final_logits_bias)$")
_ADAPTER = re.compile(r"\.(lora_[AB]|lora_embedding_[AB]|adapters?)\.")
_NUMBERED = re.compile(r"(?<=\.)\d+(?=\.)")


def has_head(auto: str) -> bool:
    """Whether a class of transformers, by its name, has a head that its caller reads."""
    return auto in _SERVE


def other_head(auto: str, resolved: str, architectures: Iterable[str], *, composite: bool = False) -> str:
    """The first architecture of config.json that is known to be another head than the Auto class `auto` needs; ""
    where one fits, or none tells. `resolved` is the class that transformers chooses, `composite` says that it is the
    text part of a larger network."""
    serve = _SERVE.get(auto, ())
    others = []
    for name in architectures:
        head = head_of(name)
        if not serve or name == resolved or head.startswith(serve) or (composite and head == "ConditionalGeneration"):
            return ""
        # A network without head lacks the weights of one, which is found out by name; but a decoder's are tied.
        if head and (head != "Bare" or auto == "AutoModelForCausalLM"):
            others.append(name)
    return others[0] if others else ""


def head_of(architecture: str) -> str:
    """What stands at the end of a network of this class, as its name says: `SequenceClassification`, `CausalLM` …,
    `Bare` for none, "" for what is not known."""
    if match := _HEAD.search(architecture):
        return match[1]
    if _LM_HEAD.search(architecture):
        return "LMHead"
    if _TRANSLATOR.search(architecture):
        return "ConditionalGeneration"
    return "Bare" if _BARE.search(architecture) else ""


def unread(missing: Iterable[str], *, bare: bool) -> list[str]:
    """Missing weights, sorted, without those that nothing reads: of a network without head the last hidden state is
    read, and not its pooler."""
    return sorted(key for key in missing if not (bare and re.match(r"(\w+\.)?pooler\.", key)))


def left_over(unexpected: Iterable[str], known: Collection[str], prefix: str, *, bare: bool) -> list[str]:
    """Weights of a checkpoint, sorted, that its network should have and has not. `known` are the network's own names,
    `prefix` that of its encoder or decoder; one that is `bare` may leave any head aside."""
    within = [_within(name, prefix) for name in known]
    own = {name.partition(".")[0] for name in within}
    shapes = {_NUMBERED.sub("*", name) for name in known}
    found = []
    for key in sorted(unexpected):
        inner = _within(key, prefix)
        computed = _COMPUTED.search(key) and _NUMBERED.sub("*", key) not in shapes
        other = _LEFT_OVER.match(inner)  # of BERT's own: cls.seq_relationship beside the cls.predictions that it has
        aside = (bare and inner.partition(".")[0] not in own) or (
            other and not any(name.startswith(other[0]) for name in within)
        )
        tied = _TIED.search(key) and key not in shapes
        if _ADAPTER.search(key) or not (computed or aside or tied):
            found.append(key)
    return found


def _within(key: str, prefix: str) -> str:
    return key.removeprefix(f"{prefix}.") if prefix else key


def wrapped_in(missing: Iterable[str], unexpected: Collection[str]) -> str:
    """What stands before the name of each weight, as a wrapper of the network saves it (`module.`); "" if nothing."""
    for key in missing:
        for name in unexpected:
            if name.endswith(f".{key}"):
                return name.removesuffix(key)
    return ""


def is_adapter(key: str) -> bool:
    """Whether a weight is one of an adapter, to be merged first."""
    return bool(_ADAPTER.search(key))


def numbered_beyond(key: str, known: Iterable[str]) -> bool:
    """Whether the network has such a weight in fewer layers than the checkpoint."""
    shape = _NUMBERED.sub("*", key)
    return any(_NUMBERED.sub("*", name) == shape for name in known)
