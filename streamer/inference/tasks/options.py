"""The options of each task, as `[pipelines.NAME.options]` gives them, each with what it does and when to change it.
Nothing here imports torch, so that a configuration can be checked without it."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from streamer.inference.tasks.params import Texts

Pooling = Literal["mean", "cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]
Aggregation = Literal["none", "simple", "first", "average", "max"]
TopK = Annotated[int, msgspec.Meta(ge=1, le=1000, description="a whole number from 1 to 1000")]
Template = Annotated[
    str, msgspec.Meta(pattern=r"^[^{}]*\{\}[^{}]*$", description="a string with {} once, where the label goes")
]
Count = Annotated[int, msgspec.Meta(ge=1)]
NewTokens = Count
Temperature = Annotated[float, msgspec.Meta(ge=0, le=100)]
MultiLabel = Annotated[bool, msgspec.Meta(description="true or false")]
Language = Annotated[str, msgspec.Meta(min_length=1, max_length=32, description="a name such as eng_Latn or de_DE")]
SpecialTokens = Literal["text", "control"]
Beams = Annotated[int, msgspec.Meta(ge=1, le=64)]


def about(text: str) -> msgspec.Meta:
    """What an option does and when to change it."""
    return msgspec.Meta(extra={"about": text})


_SPECIAL: Final = about(
    "What happens to text such as [SEP] or <|im_end|> in an event: control reads it as the tokenizer does, text"
    " splits it like any other letters, so that only templates make control tokens. Set text if events come from"
    " strangers, control if their authors mean these tokens."
)


class TextOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What every task has."""

    special_tokens_in_text: Annotated[SpecialTokens, _SPECIAL] = "control"


class ClassificationOptions(TextOptions, frozen=True, forbid_unknown_fields=True):
    """Of text-classification."""

    top_k: Annotated[
        int,
        msgspec.Meta(ge=1),
        about("Above 1, results also have this many labels as `scores`, best first. Raise it to see the runners-up."),
    ] = 1
    multi_label: Annotated[
        bool | None,
        about(
            "Score each label by itself (sigmoid), not against the others (softmax). Set it where config.json's"
            " problem_type does not say what the model was trained for."
        ),
    ] = None


class TokenClassificationOptions(TextOptions, frozen=True, forbid_unknown_fields=True):
    """Of token-classification."""

    aggregation: Annotated[
        Aggregation,
        about(
            "How tokens become entities: none gives every token's label; simple joins neighbours of the same label (B-"
            " begins a new one); first, average and max also make the tokens of a word agree. Set one of these three"
            " when words come out in pieces; set none to do it yourself."
        ),
    ] = "simple"
    ignore: Annotated[
        tuple[str, ...],
        about('Labels to leave out. Change it if the model\'s label for "no entity" is not O, or to drop more.'),
    ] = ("O",)


class VectorOptions(TextOptions, frozen=True, forbid_unknown_fields=True):
    """What tasks that end in vectors have."""

    pooling: Annotated[
        Pooling | None,
        about(
            "How the tokens' vectors become one. If the model's files do not say, it is the mean, or the last token"
            " for a language model. Set it for a model whose card names another."
        ),
    ] = None
    prompt: Annotated[
        str | None,
        about(
            "Put before every text. Set it for models that were trained with `query: ` and the like, if their files"
            ' do not say so; "" leaves out the prompt that they name.'
        ),
    ] = None
    prompt_name: Annotated[
        str | None,
        about(
            "One of the prompts that the model's files name, in place of their default. Set it where there are several."
        ),
    ] = None
    route: Annotated[
        str | None,
        about(
            "The task (query, document) by which a model with a Router chooses its modules. Set it only for such a"
            " model."
        ),
    ] = None


class EmbeddingOptions(VectorOptions, frozen=True, forbid_unknown_fields=True):
    """Of embedding."""

    normalize: Annotated[
        bool | None,
        about(
            "Scale vectors to length 1. If the model's files do not say, vectors stay as they are. Set true if"
            " subscribers use the dot product as the cosine."
        ),
    ] = None
    dimensions: Annotated[
        Count | None,
        about(
            "Keep only this many numbers, from the first; normalised again if the whole vector is. Set it to save"
            " space, with a model that was trained for it (Matryoshka)."
        ),
    ] = None
    precision: Annotated[
        Literal["float32", "float16", "int8"],
        about(
            "float16 rounds each number to about three digits. int8 gives whole numbers from -127 to 127 with the"
            " vector's own scale. Set one for an index that takes it; results are then smaller."
        ),
    ] = "float32"
    encoding: Annotated[
        Literal["float", "base64"],
        about(
            "How the vector is written, named as in OpenAI's encoding_format: float is a list of numbers, base64 a"
            " string with the bytes of the numbers in `precision`, little endian. Set base64 where many vectors are"
            " written and every subscriber decodes it: it costs a tenth of the time and less than half of the bytes."
        ),
    ] = "float"


class SimilarityOptions(VectorOptions, frozen=True, forbid_unknown_fields=True):
    """Of similarity. Where no prompt is given for a side, the model's default goes before it; `route` is of both."""

    candidate_prompt: Annotated[
        str | None,
        about(
            "A prompt for the candidates, as `prompt` is for the text. Set both for models that tell queries from"
            " passages."
        ),
    ] = None
    candidate_prompt_name: Annotated[
        str | None,
        about(
            "The name of the candidates' prompt, as `prompt_name` is the text's. Set it in place of candidate_prompt."
        ),
    ] = None


class RerankOptions(TextOptions, frozen=True, forbid_unknown_fields=True):
    """Of rerank."""

    activation: Annotated[
        Literal["sigmoid", "none"] | None,
        about(
            "The function that makes a score of the model's number; sigmoid if its files do not say. Set none for the"
            " plain number, sigmoid for scores from 0 to 1."
        ),
    ] = None
    prompt: Annotated[
        str | None,
        about("Put before the text, not before its candidates. Set it if the model's card asks for one."),
    ] = None
    prompt_name: Annotated[
        str | None,
        about("One of the prompts that the model's files name, in place of their default. Set it for another."),
    ] = None


class ZeroShotOptions(VectorOptions, frozen=True, forbid_unknown_fields=True):
    """Of zero-shot-classification; pooling, route and prompts, before text and labels, are of an embedding model."""

    candidate_labels: Annotated[
        Texts | None, about("The labels, for events that name none. Set them where all events have the same.")
    ] = None
    hypothesis_template: Annotated[
        Template | None,
        about(
            "The sentence that a label is put into, for events that name none. Default: `This example is {}.`, or the"
            " bare label with an embedding model. Write one in the events' language, or about their subject."
        ),
    ] = None
    multi_label: Annotated[
        bool, about("Score each label by itself, for events that do not say. Set true where several may fit a text.")
    ] = False
    method: Annotated[
        Literal["inference", "embedding"] | None,
        about(
            "Ask whether the text implies the sentence, or compare vectors. Default: inference if the model has a head"
            " for it. Set it to choose one of the two."
        ),
    ] = None


class QuestionAnsweringOptions(TextOptions, frozen=True, forbid_unknown_fields=True):
    """Of question-answering."""

    top_k: Annotated[
        int, msgspec.Meta(ge=1), about("Above 1, results also have that many answers. Raise it to see the runners-up.")
    ] = 1
    max_answer_tokens: Annotated[
        int, msgspec.Meta(ge=1), about("The longest answer. Raise it if answers are sentences, not names.")
    ] = 15
    no_answer: Annotated[
        bool,
        about(
            "Let the model say that the text holds no answer; the answer is then empty. Set true for models that were"
            " trained for it (SQuAD 2)."
        ),
    ] = False


class FillMaskOptions(TextOptions, frozen=True, forbid_unknown_fields=True):
    """Of fill-mask."""

    top_k: Annotated[
        TopK, about("Candidates for each mask, for events that do not say. Lower it for smaller results.")
    ] = 5


_NEW_TOKENS: Final = about(
    "The most tokens an answer may have, for events that name none. Lower it to bound the time that an answer takes."
)
_BEAMS: Final = about(
    "Beams of the search; 1 takes the likeliest token each time. Raise it for better texts, at as many times the cost."
)


class Seq2SeqOptions(TextOptions, frozen=True, forbid_unknown_fields=True):
    """Of summarization, translation and text2text-generation. What is not given is as the model's files say:
    generation_config.json, and the entry of config.json's task_specific_params that fits the task."""

    special_tokens_in_text: Annotated[SpecialTokens, _SPECIAL] = "text"
    max_new_tokens: Annotated[NewTokens | None, _NEW_TOKENS] = None
    min_length: Annotated[
        Annotated[int, msgspec.Meta(ge=0)] | None,
        about("The fewest tokens of an answer. Raise it where summaries come out too short."),
    ] = None
    num_beams: Annotated[Beams | None, _BEAMS] = None
    prefix: Annotated[
        str | None,
        about(
            "Put before every text; it may hold control tokens. Set it for models that were trained with one, as T5"
            " was with `summarize: `."
        ),
    ] = None
    src_lang: Annotated[
        Language | None, about("The texts' language, for events that name none. Set it for a model of many languages.")
    ] = None
    tgt_lang: Annotated[
        Language | None,
        about("The answers' language, for events that name none. Set it for a model of many languages."),
    ] = None


class GenerationOptions(TextOptions, frozen=True, forbid_unknown_fields=True):
    """Of text-generation."""

    special_tokens_in_text: Annotated[SpecialTokens, _SPECIAL] = "text"
    max_new_tokens: Annotated[NewTokens | None, _NEW_TOKENS] = None
    temperature: Annotated[
        Temperature,
        about(
            "How freely tokens are drawn, for events that name none; 0 takes the likeliest, whatever the model's files"
            " say. Raise it for more varied texts; the cache then keeps only those of events with a seed."
        ),
    ] = 0.0
    num_beams: Annotated[Beams | None, _BEAMS] = None
    chat: Annotated[
        bool,
        about("Take a plain text as the user's turn of a conversation. Set true for models that are tuned for chat."),
    ] = False
    system: Annotated[
        str, about("What a conversation begins with, where chat is true. Set it to tell the model its role.")
    ] = ""
    continuous: Annotated[
        bool,
        about(
            "Let texts join and leave a batch at any token (continuous batching). Set false to keep to plain"
            " `generate`, e.g. to compare with it."
        ),
    ] = True


class ScoringOptions(TextOptions, frozen=True, forbid_unknown_fields=True):
    """Of scoring."""

    per_token: Annotated[
        bool,
        about("Add each token's own log-likelihood, for events that do not say. Set true to see what was unlikely."),
    ] = False


OPTIONS: Final[dict[str, type[msgspec.Struct]]] = {
    "text-classification": ClassificationOptions,
    "token-classification": TokenClassificationOptions,
    "embedding": EmbeddingOptions,
    "similarity": SimilarityOptions,
    "rerank": RerankOptions,
    "zero-shot-classification": ZeroShotOptions,
    "question-answering": QuestionAnsweringOptions,
    "fill-mask": FillMaskOptions,
    "summarization": Seq2SeqOptions,
    "translation": Seq2SeqOptions,
    "text2text-generation": Seq2SeqOptions,
    "text-generation": GenerationOptions,
    "scoring": ScoringOptions,
}
"""Of each task that transformers' models serve."""
