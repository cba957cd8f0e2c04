"""Directories that sentence-transformers wrote, and what it makes of one text at a time."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from tests.answers.building import (
    BERT,
    GPT2,
    LABELS,
    READS,
    VOCABULARY,
    Files,
    bert_tokenizer,
    edit,
    gpt_tokenizer,
    network,
)
from tests.answers.references import Answers, by_score, scored
from tests.answers.rows import Row, refused
from tests.answers.table_seq2seq import T5, end_tokenizer
from tests.answers.texts import TEXTS, WORDED, Event, compared, labelled, paired, singles

_WIDTH: Final = 32
_PROMPT: Final = "the good day "
Modules = Callable[[], Sequence[Any]]


def _bert(path: Path) -> None:
    bert_tokenizer(path)
    network(path, "bert", "", **BERT)


def _t5(path: Path) -> None:
    end_tokenizer(path)
    network(path, "t5", "", **T5)


def _gpt2(path: Path, side: str = "right") -> None:
    gpt_tokenizer(path, pad_token="<a>", padding_side=side)
    network(path, "gpt2", "", **GPT2)


def _rotary(path: Path) -> None:
    """Its files name more tokens to read than positions; a rotation has no end."""
    bert_tokenizer(path, model_input_names=["input_ids", "attention_mask"])
    network(path, "nomic_bert", "", **{**BERT, "max_position_embeddings": READS // 2})


def _modern(path: Path) -> None:
    bert_tokenizer(path, model_input_names=["input_ids", "attention_mask"])
    ids = {"cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
    network(path, "modernbert", "", **BERT, **ids, local_attention=8, global_attn_every_n_layers=2)


def saved(
    name: str,
    pooling: Any = "mean",
    more: Modules = lambda: (),
    *,
    raw: Callable[[Path], None] = _bert,
    include_prompt: bool = True,
    after: Callable[[Path], object] = lambda path: None,
    max_seq_length: int | None = None,
    **fields: Any,
) -> Files:
    """A network, its pooling and `more` modules, as sentence-transformers saves them."""

    def make(path: Path) -> None:
        import torch
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

        bare = path.parent / f"{path.name}-bare"
        bare.mkdir()
        raw(bare)
        torch.manual_seed(2)
        lengths = {} if max_seq_length is None else {"max_seq_length": max_seq_length}
        first = Transformer(str(bare), **lengths)
        modules = [first, Pooling(_WIDTH, pooling, include_prompt=include_prompt), *more()]
        made = SentenceTransformer(modules=modules, device="cpu", **fields)
        made.save(str(path), create_model_card=False)
        after(path)

    return Files(f"st-{name}", make, "bert" if raw is _bert else "")


def modules_only(name: str, more: Modules, after: Callable[[Path], object] = lambda path: None) -> Files:
    """Modules alone."""

    def make(path: Path) -> None:
        import torch
        from sentence_transformers import SentenceTransformer

        torch.manual_seed(2)
        SentenceTransformer(modules=list(more()), device="cpu").save(str(path), create_model_card=False)
        after(path)

    return Files(f"st-{name}", make)


# --- modules ---


def _dense(width: int = 16, **fields: Any) -> Any:
    from sentence_transformers.sentence_transformer.modules import Dense

    return Dense(_WIDTH, width, **fields)


def _identity() -> Any:
    import torch

    return torch.nn.Identity()


def _of(name: str, *arguments: Any, **fields: Any) -> Any:
    from sentence_transformers.sentence_transformer import modules

    return getattr(modules, name)(*arguments, **fields)


def _static() -> list[Any]:
    import tempfile

    import torch

    with tempfile.TemporaryDirectory() as folder:
        tokenizer = bert_tokenizer(Path(folder))
    return [_of("StaticEmbedding", tokenizer, embedding_weights=torch.randn(VOCABULARY, 24))]


def _router() -> list[Any]:
    """One way for queries and one for documents; `encode` without a task takes the default."""
    import tempfile

    from sentence_transformers.base.modules import Router

    routes = {}
    for number, task in enumerate(("query", "document")):
        with tempfile.TemporaryDirectory() as folder:
            bert_tokenizer(Path(folder))
            network(Path(folder), "bert", "", seed=number, **BERT)
            routes[task] = [_of("Transformer", folder), _of("Pooling", _WIDTH, "mean" if number else "cls")]
    return [Router(routes, default_route="document")]


def _sentence_t5() -> list[Any]:
    return [_dense(16, bias=False, activation_function=_identity()), _of("Normalize")]


# --- files ---


def _renamed(path: Path) -> None:
    """The pooling in a folder of another name."""
    (path / "1_Pooling").rename(path / "pooling")
    _replace(path / "modules.json", "1_Pooling", "pooling")


def _replace(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text, f"no {old} in {text}"
    file.write_text(text.replace(old, new))


def _old_layout(path: Path) -> None:
    """The network in a folder of its own."""
    folder = path / "0_Transformer"
    folder.mkdir()
    for file in [one for one in path.iterdir() if one.is_file()]:
        if file.name not in ("modules.json", "config_sentence_transformers.json"):
            file.rename(folder / file.name)
    modules = json.loads((path / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    (path / "modules.json").write_text(json.dumps(modules))


def _legacy(*on: str) -> Callable[[Path], None]:
    """The pooling's flags, one for each mode, as before version 5."""

    def change(path: Path) -> None:
        flags = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
        fields = {"word_embedding_dimension": _WIDTH} | {f"pooling_mode_{flag}": flag in on for flag in flags}
        (path / "1_Pooling" / "config.json").write_text(json.dumps(fields))
        text = (path / "modules.json").read_text()
        modules = json.loads(text)
        modules[0]["type"] = "sentence_transformers.models.Transformer"
        modules[1]["type"] = "sentence_transformers.models.Pooling"
        (path / "modules.json").write_text(json.dumps(modules))

    return change


def _old_cross_encoder(path: Path) -> None:
    """As before version 6: the activation's name in config.json, and nothing else beside the network's files."""
    for name in ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"):
        (path / name).unlink()
    edit(path / "config.json", sbert_ce_default_activation_function="torch.nn.modules.linear.Identity")


def _limit_in(name: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        (path / "sentence_bert_config.json").rename(path / name)
        edit(path / name, max_seq_length=8)

    return change


def _type(number: int, name: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        modules = json.loads((path / "modules.json").read_text())
        modules[number]["type"] = name
        (path / "modules.json").write_text(json.dumps(modules))

    return change


# --- references ---


def _library(path: Path) -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(path), device="cpu", local_files_only=True)


def _encoded(path: Path, **how: Any) -> Answers:
    library = _library(path)
    return lambda event: {"vector": library.encode([event[0]], show_progress_bar=False, **how)[0].tolist()}


def _compared(path: Path) -> Answers:
    """By the directory's own function."""
    library = _library(path)

    def score(text: str, other: str) -> float:
        one, two = (library.encode([given], show_progress_bar=False) for given in (text, other))
        return float(library.similarity(one, two)[0, 0])

    return lambda event: scored(event, score)


def _likened(path: Path) -> Answers:
    import numpy as np

    library = _library(path)

    def answer(event: Event) -> dict[str, Any]:
        labels = (event[2] or {})["candidate_labels"]
        text, *others = (library.encode([one], show_progress_bar=False)[0] for one in (event[0], *labels))
        cosines = [float(text @ one / np.linalg.norm(text) / np.linalg.norm(one)) for one in others]
        return by_score(labels, cosines)

    return answer


def _predicted(path: Path) -> Answers:
    from sentence_transformers import CrossEncoder

    library = CrossEncoder(str(path), device="cpu", local_files_only=True)
    return lambda event: scored(event, lambda *pair: float(library.predict([pair], show_progress_bar=False)[0]))


def vectors(files: Files, events: Sequence[Event] = tuple(singles()), **fields: Any) -> Row:
    """embedding, as `encode` does it."""
    how = fields.pop("how", {})
    return Row(files, "embedding", lambda path: _encoded(path, **how), events=events, **fields)


def perhaps(files: Files, name: str, **fields: Any) -> Row:
    """Served as the library does it, or refused by the file and the module's name."""
    return vectors(files, refused=("modules.json", name), may_refuse=True, **fields)


def cross_encoder(
    name: str, after: Callable[[Path], object] = lambda path: None, *, num_labels: int = 1, **fields: Any
) -> Files:
    """A cross-encoder as the library saves it."""

    def make(path: Path) -> None:
        from sentence_transformers import CrossEncoder

        bare = path.parent / f"{path.name}-bare"
        bare.mkdir()
        bert_tokenizer(bare)
        network(bare, "bert", "ForSequenceClassification", **BERT, **({"num_labels": 1} if num_labels == 1 else LABELS))
        own = {key: value() if callable(value) else value for key, value in fields.items()}
        CrossEncoder(str(bare), device="cpu", **own).save_pretrained(str(path))
        shutil.rmtree(bare)
        after(path)

    return Files(f"ce-{name}", make)


def _torch_module(name: str) -> Callable[[], Any]:
    def made() -> Any:
        import torch

        return getattr(torch.nn, name)()

    return made


_PROMPTED: Final[dict[str, Any]] = {"prompts": {"query": _PROMPT, "other": "rain "}, "default_prompt_name": "query"}
_PLAIN: Final = saved("mean")
_ASKING: Final = saved("default-prompt", **_PROMPTED)
_DOT: Final = saved("dot", similarity_fn_name="dot")

MODULES: Final[list[Row]] = [
    # poolings
    vectors(_PLAIN),
    *(vectors(saved(mode, mode)) for mode in ("cls", "max", "lasttoken", "weightedmean", "mean_sqrt_len_tokens")),
    vectors(saved("cls-and-mean", ("cls", "mean"))),
    vectors(saved("three", ("max", "lasttoken", "weightedmean"))),
    vectors(saved("legacy-max", after=_legacy("max_tokens"))),
    vectors(saved("legacy-two", after=_legacy("cls_token", "mean_tokens"))),
    vectors(saved("legacy-last", after=_legacy("lasttoken")), refused=("1_Pooling/config.json",), may_refuse=True),
    vectors(saved("legacy-none", after=_legacy()), refused=("1_Pooling/config.json", "pooling"), may_refuse=True),
    vectors(saved("folder", "cls", after=_renamed)),
    vectors(saved("gpt2-last", "lasttoken", raw=_gpt2), events=singles(WORDED)),
    vectors(saved("gpt2-left-last", "lasttoken", raw=lambda path: _gpt2(path, "left")), events=singles(WORDED)),
    vectors(saved("gpt2-weighted", "weightedmean", raw=_gpt2), events=singles(WORDED)),
    vectors(saved("modernbert-cls", "cls", raw=_modern)),
    # modules
    vectors(saved("normalize", more=lambda: [_of("Normalize")])),
    vectors(saved("dense", more=lambda: [_dense()])),
    vectors(saved("dense-linear", more=lambda: [_dense(48, bias=False, activation_function=_identity())])),
    vectors(saved("dense-twice", "cls", lambda: [_dense(_WIDTH), _of("Normalize"), _dense(8)])),
    vectors(saved("layer-norm", more=lambda: [_of("LayerNorm", _WIDTH)])),
    vectors(saved("t5", raw=_t5)),
    vectors(
        saved(
            "t5-dense",
            "mean",
            lambda: [_dense(16, bias=False, activation_function=_identity()), _of("Normalize")],
            raw=_t5,
        )
    ),
    vectors(saved("old-layout", after=_old_layout)),
    vectors(modules_only("static", _static)),
    vectors(modules_only("static-normalized", lambda: [*_static(), _of("Normalize")])),
    perhaps(modules_only("router", _router), "Router"),
    perhaps(saved("dropout", more=lambda: [_of("Dropout", 0.3)]), "Dropout"),
    refused(
        saved("word-weights", after=_type(1, "sentence_transformers.models.WordWeights")),
        "embedding",
        "modules.json",
        "WordWeights",
    ),
    refused(saved("custom", after=_type(0, "custom_st.Transformer")), "embedding", "modules.json", "custom_st"),
    refused(
        saved("custom-pooling", after=_type(1, "my_models.pooling.Pooling")), "embedding", "modules.json", "my_models"
    ),
    refused(
        saved("splade", after=_type(1, "sentence_transformers.sparse_encoder.models.SpladePooling")),
        "embedding",
        "modules.json",
        "SpladePooling",
    ),
]
FIELDS: Final[list[Row]] = [
    # prompts
    vectors(_ASKING),
    Row(_ASKING, "similarity", _compared, events=compared()),
    Row(_ASKING, "zero-shot-classification", _likened, events=labelled(), options={"method": "embedding"}),
    vectors(saved("no-default-prompt", prompts={"query": _PROMPT})),
    vectors(saved("without-prompt", include_prompt=False, **_PROMPTED)),
    vectors(saved("without-prompt-weighted", "weightedmean", include_prompt=False, **_PROMPTED)),
    vectors(saved("without-prompt-max", "max", include_prompt=False, **_PROMPTED)),
    vectors(_PLAIN, options={"prompt": _PROMPT}, how={"prompt": _PROMPT}, variant="prompt"),
    vectors(
        saved("without-prompt-option", include_prompt=False),
        options={"prompt": _PROMPT},
        how={"prompt": _PROMPT},
    ),
    # limits, case, dimensions
    vectors(saved("max-seq-length", max_seq_length=9)),
    vectors(saved("more-than-positions", raw=_rotary, max_seq_length=100)),
    *(
        vectors(saved(f"limit-{kind}", after=_limit_in(f"sentence_{kind}_config.json")))
        for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
    ),
    vectors(
        saved("lower-case", after=lambda path: edit(path / "sentence_bert_config.json", do_lower_case=True)),
        events=singles((*TEXTS, "The GOOD Day Was FINE")),
    ),
    vectors(saved("truncated", truncate_dim=12)),
    vectors(saved("truncated-normalized", more=lambda: [_of("Normalize")], truncate_dim=12)),
    # similarity functions
    Row(_PLAIN, "similarity", _compared, events=compared()),
    *(
        Row(
            files,
            "similarity",
            _compared,
            events=compared(),
            refused=("config_sentence_transformers.json", "similarity_fn_name"),
            may_refuse=True,
        )
        for files in (_DOT, saved("euclidean", similarity_fn_name="euclidean"))
    ),
    # cross-encoders
    Row(cross_encoder("sigmoid"), "rerank", _predicted, events=compared()),
    Row(cross_encoder("identity", activation_fn=_torch_module("Identity")), "rerank", _predicted, events=compared()),
    Row(
        cross_encoder("prompt", prompts={"q": _PROMPT}, default_prompt_name="q"),
        "rerank",
        _predicted,
        events=compared(),
    ),
    Row(cross_encoder("max-length", max_length=12), "rerank", _predicted, events=compared()),
    Row(
        cross_encoder("tanh", activation_fn=_torch_module("Tanh")),
        "rerank",
        _predicted,
        events=paired(),
        refused=("config.json|config_sentence_transformers.json", "Tanh"),
        may_refuse=True,
    ),
    Row(
        cross_encoder("old", _old_cross_encoder),
        "rerank",
        _predicted,
        events=compared(),
    ),
]
