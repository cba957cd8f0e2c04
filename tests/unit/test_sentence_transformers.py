"""Directories of sentence-transformers, served as the library itself serves them one text at a time, or refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.errors import Code, DataFailure, ModelError
from streamer.inference.models.checks import has_openvino
from streamer.inference.models.hub_client import download
from streamer.inference.models.safety import digest, used_files
from streamer.inference.models.sentence_files import CLASSES
from streamer.inference.models.sentence_modules import TokenPooling, Tokens
from streamer.inference.spec import WorkerSpec
from streamer.inference.tasks.families import load
from tests.tiny_models import BERT, DISTILBERT, MODERNBERT, MPNET, ROBERTA, XLM_ROBERTA, tiny
from tests.unit.tasks_kit import TEXTS, Event, model_of, near, outcomes, outputs

CANDIDATES = ["travel", "a complaint", "東京", "travel "]
PROMPT = "the plot and the music: "
BERT_FILE = "sentence_bert_config.json"
ST_FILE = "config_sentence_transformers.json"
PROMPTS = {"query": PROMPT, "passage": "a text about ", "none": ""}


def directory(
    path: Path,
    *after: Any,
    architecture: str = BERT,
    pooling: dict[str, Any] | None = None,
    transformer: dict[str, Any] | None = None,
    **fields: Any,
) -> Path:
    """What the library saves of a tiny transformer, a pooling and what comes `after`; `fields` are of the model."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    raw = tiny(path / "raw", architecture, "")
    modules = [Transformer(str(raw), **(transformer or {})), Pooling(32, **(pooling or {})), *after]
    SentenceTransformer(modules=modules, device="cpu", **fields).save(str(path / "model"), create_model_card=False)
    return path / "model"


def encoded(path: Path, texts: list[str], **how: Any) -> Any:
    """The library's own vectors, one text at a time."""
    from sentence_transformers import SentenceTransformer

    own = SentenceTransformer(str(path), device="cpu", local_files_only=True)
    return np.stack([own.encode([text], show_progress_bar=False, **how)[0] for text in texts])


def compare(path: Path, options: dict[str, Any] | None = None, texts: list[str] = TEXTS, **how: Any) -> None:
    """All texts in one forward batch, against the library's one by one."""
    found = outputs(model_of(path, "embedding", **(options or {})), [*texts])
    for output, expected in zip(found, encoded(path, texts, **how), strict=True):
        assert output["vector"] == near(expected)


def edit(file: Path, **changes: Any) -> None:
    """Change fields of a JSON file."""
    said = json.loads(file.read_text()) if file.is_file() else {}
    file.write_text(json.dumps({key: value for key, value in (said | changes).items() if value is not ...}))


def edit_modules(path: Path, old: str, new: str) -> None:
    """Change text of modules.json."""
    said = (path / "modules.json").read_text()
    assert old in said
    (path / "modules.json").write_text(said.replace(old, new))


# --- poolings ---

MODES: list[Any] = ["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]


@pytest.mark.parametrize(
    ("mode", "side"), [*((mode, "right") for mode in MODES), (("cls", "mean"), "right"), (tuple(MODES), "left")]
)
def test_poolings(mode: Any, side: str, tmp_path: Path) -> None:
    """Of each mode, and of several side by side; wherever the padding is."""
    path = directory(tmp_path, architecture=MODERNBERT, pooling={"pooling_mode": mode})
    edit(path / "tokenizer_config.json", padding_side=side)
    compare(path)


@pytest.mark.parametrize("side", ["right", "left"])
def test_poolings_without_the_prompt(side: str, tmp_path: Path) -> None:
    """Its tokens are read and not pooled; also where the text's own are all cut away."""
    pooling = {"pooling_mode": MODES, "include_prompt": False}
    path = directory(tmp_path, architecture=MODERNBERT, pooling=pooling, prompts=PROMPTS)
    edit(path / "tokenizer_config.json", padding_side=side)
    compare(path, {"prompt_name": "query"}, prompt_name="query")
    compare(path, {"prompt": PROMPT}, prompt=PROMPT)
    compare(path, {"prompt": PROMPT * 20}, prompt=PROMPT * 20)
    compare(path)
    edit(path / ST_FILE, default_prompt_name="query")
    compare(path)


@pytest.mark.parametrize("left_out", [0, 3, 40])
def test_poolings_of_any_tokens(left_out: int) -> None:
    """Each row is what the library makes of it alone, also where nothing but the prompt is left: 0, or -inf."""
    import torch
    from sentence_transformers.sentence_transformer.modules import Pooling

    torch.manual_seed(0)
    hidden = torch.randn(6, 9, 4)
    for pads_left in (False, True):
        lengths = torch.tensor([9, 1, 4, 3, 7, 2])
        mask = (torch.arange(9) < lengths.unsqueeze(1)).long()
        mask = mask.flip(1) if pads_left else mask
        counts = torch.full((6,), left_out) if left_out else None
        found = TokenPooling(tuple(MODES), include_prompt=False).compute(hidden, Tokens(mask, counts))
        own = Pooling(4, MODES, include_prompt=False)
        for row, alone, real in zip(found, hidden, mask.bool(), strict=True):
            features = {"token_embeddings": alone[real][None], "prompt_length": left_out}
            torch.testing.assert_close(row, own(features)["sentence_embedding"][0])


def test_flags_of_before(tmp_path: Path) -> None:
    """Old files say modes by flags; without any it is the mean, and one field goes before them."""
    path = directory(tmp_path)
    config = path / "1_Pooling" / "config.json"
    flags = {"word_embedding_dimension": 32, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": False}
    config.write_text(json.dumps(flags))
    compare(path)
    edit(config, pooling_mode_mean_sqrt_len_tokens=True, pooling_mode_cls_token=True)
    compare(path)
    edit(config, pooling_mode="max")
    compare(path)


def test_a_pooling_by_option(tmp_path: Path) -> None:
    """Instead of the files' own; what comes after it stays."""
    from sentence_transformers.base.modules import Normalize

    path = directory(tmp_path, Normalize(), pooling={"pooling_mode": "cls"})
    last = directory(tmp_path / "other", Normalize(), pooling={"pooling_mode": "lasttoken"})
    found = outputs(model_of(path, "embedding", pooling="lasttoken"), [*TEXTS])
    assert found == outputs(model_of(last, "embedding"), [*TEXTS])


def test_a_text_without_any_token_fails_alone(tmp_path: Path) -> None:
    """A tokenizer that adds none makes nothing of an empty text; the library fails for it."""
    path = directory(tmp_path)
    tokenizer = json.loads((path / "tokenizer.json").read_text())
    (path / "tokenizer.json").write_text(json.dumps(tokenizer | {"post_processor": None}))
    texts = [text for text in TEXTS if text.strip()]
    failure, *rest = outcomes(model_of(path, "embedding"), [" ", *texts])
    assert isinstance(failure, DataFailure)
    for output, expected in zip(rest, encoded(path, texts), strict=True):
        assert isinstance(output, dict)
        assert output["vector"] == near(expected)


# --- other modules ---


def test_the_modules_after_the_pooling(tmp_path: Path) -> None:
    """Each as it is, in the order of the file."""
    import torch
    from sentence_transformers.base.modules import Dense, Normalize
    from sentence_transformers.sentence_transformer.modules import Dropout, LayerNorm

    torch.manual_seed(3)
    norm = LayerNorm(24)
    for weights in norm.parameters():
        torch.nn.init.normal_(weights)
    path = directory(
        tmp_path,
        Dropout(0.5),
        Dense(64, 24, activation_function=torch.nn.GELU()),
        norm,
        Dense(24, 24, bias=False, activation_function=torch.nn.Identity(), use_residual=True),
        Dense(24, 12, use_residual=True),
        Normalize(),
        pooling={"pooling_mode": ("mean", "cls")},
    )
    compare(path)
    for output in outputs(model_of(path, "embedding", dimensions=5), [*TEXTS]):
        assert np.linalg.norm(output["vector"]) == near(1.0)
    for output, whole in zip(
        outputs(model_of(path, "embedding", normalize=False), [*TEXTS]), encoded(path, TEXTS), strict=True
    ):
        assert output["vector"] / np.linalg.norm(output["vector"]) == near(whole)


def test_modules_before_the_pooling(tmp_path: Path) -> None:
    """A module may work on tokens, and under a name of its own."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Dense, Normalize
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    raw = tiny(tmp_path / "raw", BERT, "")
    modules = [
        Transformer(str(raw)),
        Normalize(),  # finds nothing yet
        Dense(32, 16, module_input_name="token_embeddings"),
        Normalize("token_embeddings"),
        Pooling(16, "weightedmean"),
        Dense(16, 8, module_output_name="aside"),
        Dense(8, 4, module_input_name="aside", module_output_name="sentence_embedding"),
    ]
    SentenceTransformer(modules=modules, device="cpu").save(str(tmp_path / "model"), create_model_card=False)
    compare(tmp_path / "model")


@pytest.mark.parametrize("architecture", [ROBERTA, DISTILBERT, MPNET, XLM_ROBERTA])
def test_architectures(architecture: str, tmp_path: Path) -> None:
    """With their own tokenizers and positions, below the library's limit of them."""
    compare(directory(tmp_path, architecture=architecture, transformer={"max_seq_length": 40}))


# --- the transformer ---

T5 = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0}
QWEN = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 64,
    "max_position_embeddings": 48,
}
BART = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": 48,
    "forced_eos_token_id": 2,
    "decoder_start_token_id": 2,
}


def encoder_decoder(path: Path, architecture: str, **config: Any) -> Path:
    """A model with encoder and decoder, and XLM-R's tokenizer beside it."""
    import torch
    import transformers

    tiny(path, XLM_ROBERTA, "")
    vocabulary = json.loads((path / "config.json").read_text())["vocab_size"]
    common = {"vocab_size": vocabulary, "pad_token_id": 1, "eos_token_id": 2, "bos_token_id": 0}
    torch.manual_seed(0)
    made: Any = transformers.AutoModel.from_config(  # type: ignore[no-untyped-call]
        transformers.AutoConfig.for_model(architecture, **{**common, **config})
    )
    for weights in made.parameters():
        if weights.ndim > 1:
            weights.data *= 4
    made.save_pretrained(path)
    return path


@pytest.mark.parametrize(
    ("architecture", "config"), [("t5", T5), ("mt5", T5), ("umt5", T5), ("bart", BART), ("mbart", BART)]
)
def test_encoders_of_models_with_a_decoder(architecture: str, config: dict[str, Any], tmp_path: Path) -> None:
    """Of T5 and its kin the encoder alone, of BART and its kin both; with modules.json and without."""
    from sentence_transformers import SentenceTransformer

    path = encoder_decoder(tmp_path / "raw", architecture, **config)
    compare(path)
    SentenceTransformer(str(path), device="cpu").save(str(tmp_path / "model"), create_model_card=False)
    compare(tmp_path / "model")


@pytest.mark.parametrize("name", ["bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet"])
def test_the_longest_text_in_every_file_that_may_say_it(name: str, tmp_path: Path) -> None:
    """The first file of several that says anything counts."""
    path = directory(tmp_path)
    (path / "sentence_bert_config.json").write_text("{}")
    (path / f"sentence_{name}_config.json").write_text('{"max_seq_length": 7}')
    if name != "xlnet":
        (path / "sentence_xlnet_config.json").write_text('{"max_seq_length": 5}')
    assert model_of(path, "embedding").card.max_tokens == 7
    compare(path)


def test_the_longest_text_goes_before_the_tokenizers(tmp_path: Path) -> None:
    """Up or down; the tokenizer's arguments in the same file go before both."""
    path = directory(tmp_path)
    edit(path / "tokenizer_config.json", model_max_length=8)
    edit(path / "sentence_bert_config.json", max_seq_length=20)
    assert model_of(path, "embedding").card.max_tokens == 20
    compare(path)
    edit(path / "sentence_bert_config.json", tokenizer_args={"model_max_length": 11})
    assert model_of(path, "embedding").card.max_tokens == 11
    compare(path)


def test_small_letters(tmp_path: Path) -> None:
    """As the library's tokenizer makes them small: not as Python does, and special tokens stay."""
    path = directory(tmp_path, architecture=ROBERTA, transformer={"max_seq_length": 40})
    edit(path / "sentence_bert_config.json", do_lower_case=True)
    texts = [*TEXTS, "ΟΔΟΣ", "İstanbul STRASSE", "a <MASK> b", "a <mask> b", "The Film"]
    compare(path, texts=texts)
    found = outputs(model_of(path, "embedding"), ["The Film", "the film"])
    assert found[0] == found[1]


def test_the_old_layout(tmp_path: Path) -> None:
    """The transformer in a folder of its own, and another checkpoint beside it that is not read."""
    path = directory(tmp_path)
    folder = path / "0_Transformer"
    folder.mkdir()
    for file in path.iterdir():
        if file.is_file() and file.name not in ("modules.json", "config_sentence_transformers.json"):
            file.rename(folder / file.name)
    edit(folder / "sentence_bert_config.json", max_seq_length=9)
    edit_modules(path, '"path": ""', '"path": "0_Transformer"')
    edit_modules(
        path, "sentence_transformers.base.modules.transformer.Transformer", "sentence_transformers.models.Transformer"
    )
    edit_modules(
        path,
        "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
        "sentence_transformers.models.Pooling",
    )
    before = model_of(path, "embedding").card
    assert before.max_tokens == 9
    compare(path)
    tiny(path, ROBERTA, "")
    assert model_of(path, "embedding").card == before


def test_every_path_of_a_class_is_the_librarys(tmp_path: Path) -> None:
    """All that we take for a module is one there, of that name."""
    from sentence_transformers.util import import_from_string

    for path, kind in CLASSES.items():
        assert import_from_string(path).__name__ == kind


def test_a_pooling_in_a_folder_of_another_name(tmp_path: Path) -> None:
    """Folders are those that modules.json names."""
    path = directory(tmp_path, pooling={"pooling_mode": "cls"})
    (path / "1_Pooling").rename(path / "deep")
    (path / "deeper").mkdir()
    (path / "deep").rename(path / "deeper" / "deep")
    edit_modules(path, "1_Pooling", "deeper/deep")
    compare(path)


# --- models without a transformer ---


def static(path: Path, *after: Any) -> Path:
    """A vector a token, and a tokenizer that would add special tokens."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tiny(path / "raw", BERT, "") / "tokenizer.json"))
    torch.manual_seed(1)
    first = StaticEmbedding(tokenizer, embedding_dim=16)
    SentenceTransformer(modules=[first, *after], device="cpu").save(str(path / "model"), create_model_card=False)
    return path / "model"


def test_static_embeddings(tmp_path: Path) -> None:
    """Of any length, also of no token; with the modules after them, and compared."""
    from sentence_transformers.base.modules import Dense, Normalize

    path = static(tmp_path, Dense(16, 8), Normalize())
    texts = [*TEXTS, "", "the film " * 300]
    compare(path, texts=texts)
    compare(path, {"prompt": "the "}, prompt="the ")
    model = model_of(path, "similarity")
    vectors = encoded(path, [*TEXTS, *CANDIDATES])
    for text, output in zip(
        vectors, outputs(model, [(text, None, {"candidates": CANDIDATES}) for text in TEXTS]), strict=False
    ):
        assert output["scores"] == near(vectors[len(TEXTS) :] @ text)


def test_static_embeddings_of_model2vec(tmp_path: Path) -> None:
    """Tokens share rows, and have weights; a text is as long as the tokenizer's file says."""
    import torch
    from safetensors.torch import save_file
    from tokenizers import Tokenizer

    path = static(tmp_path)
    tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
    tokenizer.enable_truncation(6)
    tokenizer.enable_padding(length=12)
    tokenizer.save(str(path / "tokenizer.json"))
    count = tokenizer.get_vocab_size()
    torch.manual_seed(2)
    tensors = {
        "embeddings": torch.randn(20, 16),
        "mapping": torch.randint(0, 20, (count,)),
        "weights": torch.rand(count, dtype=torch.float64),
    }
    save_file(tensors, path / "model.safetensors")
    edit_modules(path, '"path": ""', '"path": "."')
    compare(path)
    assert model_of(path, "embedding").card.max_tokens == 6


# --- routes ---


@pytest.fixture(scope="module")
def routed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Queries by static vectors, documents by a transformer, and a linear layer after both."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Dense, Normalize, Router
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    path = tmp_path_factory.mktemp("routed")
    query: Any = SentenceTransformer(str(static(path / "static", Dense(16, 32))), device="cpu")
    documents = [Transformer(str(tiny(path / "raw", BERT, ""))), Pooling(32, "cls"), Dense(32, 32)]
    router = Router.for_query_document(list(query), documents)
    SentenceTransformer(modules=[router, Normalize()], device="cpu", prompts={"query": "the ", "document": "a "}).save(
        str(path / "model"), create_model_card=False
    )
    return path / "model"


def test_routes(routed: Path) -> None:
    """The default, and each by its name."""
    compare(routed)
    compare(routed, {"route": "query"}, task="query")
    compare(routed, {"route": "document", "prompt_name": "document"}, task="document", prompt_name="document")


def test_routes_by_mapping_and_in_the_middle(tmp_path: Path) -> None:
    """The nearest mapping is taken; a router may come after the pooling, and was once called Asym."""
    from sentence_transformers.base.modules import Dense, Router

    router = Router({"a": [Dense(32, 8)], "b": [Dense(32, 8)], "text": [Dense(32, 8)]}, allow_empty_key=False)
    path = directory(tmp_path, router)
    edit_modules(path, "sentence_transformers.base.modules.router.Router", "sentence_transformers.models.Asym")
    compare(path)
    file = path / "2_Router" / "router_config.json"
    said = json.loads(file.read_text())
    said["parameters"] |= {"default_route": "b", "route_mappings": {"('query', None)": "a", "(None, 'image')": "text"}}
    file.write_text(json.dumps(said))
    compare(path)
    compare(path, {"route": "query"}, task="query")
    compare(path, {"route": "b"}, task="b")
    said["parameters"]["route_mappings"] = {"(None, 'text')": "b"}
    (path / "2_Router" / "config.json").write_text(json.dumps(said))
    file.unlink()
    compare(path)


def test_a_route_that_is_not_there_is_refused(routed: Path, tmp_path: Path) -> None:
    """By its name and the names that exist; so is one without a router."""
    with pytest.raises(ModelError, match="no route 'other'; its routes are document, query"):
        model_of(routed, "embedding", route="other")
    with pytest.raises(ModelError, match="Router"):
        model_of(directory(tmp_path), "embedding", route="query")
    copy = shutil.copytree(routed, tmp_path / "copy")
    file = copy / "router_config.json"
    said = json.loads(file.read_text())
    said["parameters"] = {"default_route": None, "allow_empty_key": False}
    file.write_text(json.dumps(said))
    with pytest.raises(ModelError, match=r"router_config.json.*no option route"):
        model_of(copy, "embedding")


# --- the files that count ---


def test_only_the_folders_that_modules_name_are_used(routed: Path, tmp_path: Path) -> None:
    """Also those of a router's routes; a checkpoint beside them is neither hashed nor loaded."""
    path = shutil.copytree(routed, tmp_path / "model")
    before = used_files(path)
    for name in ("checkpoint-500", "onnx", "1_Pooling"):
        tiny(path / name, BERT, "")
    assert used_files(path) == before
    assert sum(name.endswith(".safetensors") for name in before) == 4  # vectors, two linear layers, the transformer
    hashed = digest(path, before)
    (dense,) = [name for name in before if "query" in name and "Dense" in name and name.endswith("config.json")]
    edit(path / dense, activation_function="torch.nn.modules.linear.Identity")
    assert digest(path, before) != hashed


def test_the_hub_is_asked_for_the_folders_that_modules_name(
    routed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And for no checkpoint beside them: what is fetched is what a directory's own files are."""
    hub = pytest.importorskip("huggingface_hub")
    repository = shutil.copytree(routed, tmp_path / "repository")
    tiny(repository / "checkpoint-500", BERT, "")
    snapshot = tmp_path / "snapshot"

    def copy(name: str, *, allow_patterns: list[str], ignore_patterns: list[str], **_: Any) -> str:
        files = [file.relative_to(repository).as_posix() for file in repository.rglob("*") if file.is_file()]
        chosen = hub.utils.filter_repo_objects(files, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns)
        for file in chosen:
            (snapshot / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(repository / file, snapshot / file)
        return str(snapshot)

    monkeypatch.setattr(hub, "snapshot_download", copy)
    assert download("acme/routed", "0" * 40) == snapshot
    fetched = sorted(file.relative_to(snapshot).as_posix() for file in snapshot.rglob("*") if file.is_file())
    assert fetched == used_files(repository)


# --- prompts, dimensions and similarity ---


def test_prompts(tmp_path: Path) -> None:
    """The default goes before every text, unless another is asked for; an empty one is one."""
    path = directory(tmp_path, prompts=PROMPTS, default_prompt_name="query")
    compare(path)
    compare(path, {"prompt": ""}, prompt="")
    compare(path, {"prompt_name": "passage"}, prompt_name="passage")
    compare(path, {"prompt": "du "}, prompt="du ")
    with pytest.raises(ModelError, match=r"prompt 'other'; it has document, none, passage, query"):
        model_of(path, "embedding", prompt_name="other")
    with pytest.raises(ModelError, match="both"):
        model_of(path, "embedding", prompt_name="query", prompt="a ")


@pytest.mark.parametrize(
    ("kind", "include_prompt"), [("cosine", False), ("dot", True), ("euclidean", True), ("manhattan", False)]
)
def test_similarity_is_the_models(kind: str, include_prompt: bool, tmp_path: Path) -> None:
    """By its own function over its own vectors, with a prompt for each side."""
    from sentence_transformers import SentenceTransformer

    path = directory(
        tmp_path,
        pooling={"include_prompt": include_prompt},
        prompts=PROMPTS,
        default_prompt_name="passage",
        similarity_fn_name=kind,
        truncate_dim=20,
    )
    own = SentenceTransformer(str(path), device="cpu")
    events: list[Event] = [(text, None, {"candidates": [*CANDIDATES, text]}) for text in TEXTS]
    cases: list[tuple[dict[str, Any], tuple[str, str]]] = [
        ({}, ("passage", "passage")),
        ({"prompt_name": "query", "candidate_prompt": ""}, ("query", "none")),
    ]
    for options, prompts in cases:
        found = outputs(model_of(path, "similarity", **options), events)
        pairs = outputs(model_of(path, "similarity", **options), [(text, CANDIDATES[0]) for text in TEXTS])
        for text, output, pair in zip(TEXTS, found, pairs, strict=True):
            one = own.encode([text], prompt_name=prompts[0])
            others = [own.encode([other], prompt_name=prompts[1])[0] for other in [*CANDIDATES, text]]
            expected = own.similarity(one, np.stack(others))[0].numpy()
            assert output["scores"] == near(expected)
            assert pair["score"] == near(expected[0])
    labels = outputs(model_of(path, "zero-shot-classification"), [(TEXTS[0], None, {"candidate_labels": CANDIDATES})])
    vectors = encoded(path, [TEXTS[0], *CANDIDATES])
    expected = own.similarity(vectors[:1], vectors[1:])[0].numpy()
    order = np.argsort(-expected, kind="stable")
    assert labels[0] == {"labels": [CANDIDATES[index] for index in order], "scores": near(expected[order])}


def test_a_text_that_is_its_own_candidate_is_computed_for_each_side(tmp_path: Path) -> None:
    """Rows of the same tokens may leave out different ones."""
    path = directory(tmp_path, pooling={"include_prompt": False})
    event: Event = ("film", None, {"candidates": ["the film", "film"]})
    (found,) = outputs(model_of(path, "similarity", prompt="the ", candidate_prompt=""), [event])
    (one,) = encoded(path, ["film"], prompt="the ")
    others = encoded(path, ["the film", "film"])
    cosines = others @ one / np.linalg.norm(others, axis=1) / np.linalg.norm(one)
    assert cosines[0] < 0.999
    assert found["scores"] == near(cosines)


def test_dimensions(tmp_path: Path) -> None:
    """The files' cut is as it is; more than there are is refused."""
    from sentence_transformers.base.modules import Normalize

    path = directory(tmp_path, Normalize(), truncate_dim=10)
    compare(path)
    for output in outputs(model_of(path, "embedding", dimensions=20), [*TEXTS]):
        assert output["dimensions"] == 20
        assert np.linalg.norm(output["vector"]) == near(1.0)
    with pytest.raises(ModelError, match=r"options.dimensions: the model's vectors have 32"):
        model_of(path, "embedding", dimensions=33)
    edit(path / "config_sentence_transformers.json", truncate_dim=100)
    compare(path)


def test_windows_of_a_long_text(tmp_path: Path) -> None:
    """The prompt is left out of the first, where it stands; of length 1 again before the files' cut."""
    from sentence_transformers.base.modules import Normalize

    path = directory(tmp_path, Normalize(), pooling={"include_prompt": False}, prompts=PROMPTS)
    model = model_of(path, "embedding", on_overflow="window", prompt_name="query")
    (output, short) = outputs(model, [TEXTS[6], TEXTS[0]])
    assert output["windows"] > 1
    assert np.linalg.norm(output["vector"]) == near(1.0)
    assert short["vector"] == near(encoded(path, [TEXTS[0]], prompt_name="query")[0])
    windows = model.encode([TEXTS[6]], None, None)[0].content.rows  # type: ignore[union-attr]
    assert [row.left_out > 0 for row in windows] == [True] + [False] * (len(windows) - 1)
    edit(path / ST_FILE, truncate_dim=9)
    (cut,) = outputs(model_of(path, "embedding", on_overflow="window", prompt_name="query"), [TEXTS[6]])
    assert cut["vector"] == near(output["vector"][:9])


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, len(TEXTS) - 1), min_size=1, max_size=12), st.integers(0, 200))
def test_any_batch_and_any_order_is_each_text_alone(comparing: Any, places: list[int], batch_tokens: int) -> None:
    """With prompts that each side leaves out, and candidates that many texts share."""
    model, alone = comparing
    found = outputs(model, [event_of(place) for place in places], batch_tokens)
    for place, output in zip(places, found, strict=True):
        assert output["scores"] == near(alone[place])


def event_of(place: int) -> Event:
    """A text and the texts after it, and itself."""
    return (TEXTS[place], None, {"candidates": [*TEXTS[place : place + 3], PROMPT + TEXTS[place]]})


@pytest.fixture(scope="module")
def comparing(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, list[list[float]]]:
    """A model of similarity, and the scores of each event alone."""
    pooling = {"pooling_mode": ("weightedmean", "max"), "include_prompt": False}
    path = directory(tmp_path_factory.mktemp("comparing"), architecture=MODERNBERT, pooling=pooling, prompts=PROMPTS)
    model = model_of(path, "similarity", prompt_name="query", candidate_prompt_name="passage")
    return model, [outputs(model, [event_of(place)])[0]["scores"] for place in range(len(TEXTS))]


@pytest.mark.skipif(not has_openvino(), reason="without openvino")
@pytest.mark.parametrize("architecture", [BERT, "t5"])
def test_the_modules_on_openvino(architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network's tokens are pooled as torch's are."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Dense
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    raw = encoder_decoder(tmp_path / "raw", "t5", **T5) if architecture == "t5" else tiny(tmp_path / "raw", BERT, "")
    modules = [Transformer(str(raw)), Pooling(32, MODES, include_prompt=False), Dense(192, 16)]
    path = tmp_path / "model"
    SentenceTransformer(modules=modules, device="cpu", prompts=PROMPTS).save(str(path), create_model_card=False)
    spec = WorkerSpec(
        "test", "embedding", str(path), dtype="float32", backend="openvino", options={"prompt_name": "query"}
    )
    model = load(spec)
    assert model.card.backend == "openvino"
    for output, expected in zip(outputs(model, [*TEXTS]), encoded(path, TEXTS, prompt_name="query"), strict=True):
        assert output["vector"] == near(expected)


# --- directories that the library has not written ---


def test_a_directory_without_modules(tmp_path: Path) -> None:
    """The library then reads none of its own files."""
    path = tiny(tmp_path, BERT, "")
    edit(path / "config_sentence_transformers.json", prompts=PROMPTS, default_prompt_name="query", truncate_dim=3)
    edit(path / "sentence_bert_config.json", max_seq_length=5, do_lower_case=True)
    compare(path)
    with pytest.raises(ModelError, match="no prompt 'query'; it has none"):
        model_of(path, "embedding", prompt_name="query")


def causal(path: Path) -> Path:
    """A tiny language model with a head."""
    return tiny(path, ROBERTA, "ForCausalLM", is_decoder=True)


def test_a_language_model_without_modules_is_its_last_token(tmp_path: Path) -> None:
    """As its architecture tells the library; a chat template would be put around texts, and is refused."""
    path = causal(tmp_path)
    edit(path / "tokenizer_config.json", model_max_length=40)
    compare(path)
    (path / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    with pytest.raises(ModelError, match=r"chat_template\.jinja"):
        model_of(path, "embedding")
    assert model_of(path, "embedding", pooling="mean")


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_language_model_with_modules(side: str, tmp_path: Path) -> None:
    """Qwen's and the like: the last token, of length 1; a chat template is for others."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Normalize
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    raw = encoder_decoder(tmp_path / "raw", "qwen3", **QWEN)
    edit(raw / "tokenizer_config.json", padding_side=side)
    modules = [Transformer(str(raw)), Pooling(32, "lasttoken"), Normalize()]
    SentenceTransformer(modules=modules, device="cpu", prompts=PROMPTS).save(
        str(tmp_path / "model"), create_model_card=False
    )
    (tmp_path / "model" / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    compare(tmp_path / "model", {"prompt_name": "query"}, prompt_name="query")


def test_a_network_that_is_not_of_texts_alone_is_refused(tmp_path: Path) -> None:
    """By the name of its class, as a model's fault."""
    import torch
    import transformers

    path = tiny(tmp_path, BERT, "")
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**size, "vocab_size": 400, "bos_token_id": 0, "eos_token_id": 2}
    torch.manual_seed(0)
    config = transformers.CLIPConfig(text_config=text, vision_config={**size, "image_size": 8, "patch_size": 4})
    transformers.CLIPModel(config).save_pretrained(path)
    with pytest.raises(ModelError, match="CLIPModel"):
        model_of(path, "embedding")


# --- what is refused ---


def fields(file: str, **changes: Any) -> Callable[[Path], None]:
    """Edits one file."""
    return lambda path: edit(path / file, **changes)


def modules(old: str, new: str) -> Callable[[Path], None]:
    """Edits modules.json."""
    return lambda path: edit_modules(path, old, new)


OWN = "sentence_transformers.base.modules.transformer.Transformer"
REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "class of another package": (modules(OWN, "custom_st.Transformer"), r"modules\.json.*custom_st\.Transformer"),
    "class of the library in the wrong place": (modules(OWN, "sentence_transformers.x.Transformer"), r"\.x\.Transf"),
    "CLIP": (modules(OWN, "sentence_transformers.models.CLIPModel"), r"models\.CLIPModel.*not supported"),
    "bag of words": (modules(OWN, "sentence_transformers.models.BoW"), r"models\.BoW"),
    "folder above": (modules('"path": ""', '"path": "../other"'), r"modules\.json.*\.\./other"),
    "two of a name": (modules('"name": "1"', '"name": "0"'), r"modules\.json.*twice"),
    "no pooling": (modules("modules.pooling.Pooling", "modules.dropout.Dropout"), "gives sentence_embedding"),
    "no transformer": (modules(OWN, "sentence_transformers.models.Dropout"), "first module"),
    "unknown mode": (fields("1_Pooling/config.json", pooling_mode="median"), r"1_Pooling/config\.json.*median"),
    "no mode": (fields("1_Pooling/config.json", pooling_mode=[]), r"1_Pooling/config\.json.*pooling_mode"),
    "unknown field of the pooling": (fields("1_Pooling/config.json", scale=2), r"1_Pooling/config\.json.*scale"),
    "pooling without file": (lambda path: (path / "1_Pooling/config.json").unlink(), r"lacks 1_Pooling/config\.json"),
    "dense without weights": (lambda path: (path / "2_Dense/model.safetensors").unlink(), "2_Dense/model.safetensors"),
    "dense with a pickle": (
        lambda path: (path / "2_Dense/model.safetensors").rename(path / "2_Dense/pytorch_model.bin"),
        r"2_Dense.*pytorch_model\.bin",
    ),
    "dense of another size": (
        fields("2_Dense/config.json", out_features=5),
        "2_Dense/model.safetensors.*2_Dense/config",
    ),
    "dense for another model": (fields("1_Pooling/config.json", pooling_mode=["cls", "max"]), "in_features is 32.* 64"),
    "activation with weights": (
        fields("2_Dense/config.json", activation_function="torch.nn.PReLU"),
        "activation.*PReLU",
    ),
    "activation over rows": (fields("2_Dense/config.json", activation_function="torch.nn.Softmax"), "Softmax"),
    "activation of other code": (
        fields("2_Dense/config.json", activation_function="os.system"),
        "activation.*os.system",
    ),
    "dense of nothing": (fields("2_Dense/config.json", module_input_name="x"), "Dense gives x"),
    "lengths as a word": (fields(BERT_FILE, max_seq_length="long"), rf"{BERT_FILE}.*max_seq_length"),
    "length of 0": (fields(BERT_FILE, max_seq_length=0), rf"{BERT_FILE}.*max_seq_length"),
    "unknown field of the transformer": (fields(BERT_FILE, shift=1), rf"{BERT_FILE}.*shift"),
    "another task": (fields(BERT_FILE, transformer_task="fill-mask"), rf"{BERT_FILE}.*transformer_task.*fill-mask"),
    "another output": (
        fields(BERT_FILE, modality_config={"text": {"method": "forward", "method_output_name": "pooler_output"}}),
        rf"{BERT_FILE}.*modality_config",
    ),
    "messages": (
        fields(
            BERT_FILE,
            modality_config={
                kind: {"method": "forward", "method_output_name": "last_hidden_state"} for kind in ("text", "message")
            },
        ),
        rf"{BERT_FILE}.*modality_config.*message",
    ),
    "arguments of the network": (
        fields(BERT_FILE, model_args={"num_hidden_layers": 1}),
        "model_args.*num_hidden_layers",
    ),
    "arguments of the tokenizer": (fields(BERT_FILE, processor_kwargs={"truncation_side": "left"}), "truncation_side"),
    "arguments of each text": (fields(BERT_FILE, processing_kwargs={"text": {"max_length": 4}}), "processing_kwargs"),
    "query expansion": (fields(BERT_FILE, query_expansion={"strategy": "min", "length": 9}), "query_expansion"),
    "sparse": (fields(ST_FILE, model_type="SparseEncoder"), rf"{ST_FILE}.*model_type.*SparseEncoder"),
    "cross-encoder": (fields(ST_FILE, model_type="CrossEncoder"), rf"{ST_FILE}.*model_type.*CrossEncoder"),
    "similarity of many vectors": (fields(ST_FILE, similarity_fn_name="maxsim"), rf"{ST_FILE}.*maxsim"),
    "default prompt without text": (fields(ST_FILE, default_prompt_name="x"), rf"{ST_FILE}.*default_prompt_name 'x'"),
    "prompts as a list": (fields(ST_FILE, prompts=["a "]), rf"{ST_FILE}.*prompts"),
    "modules as an object": (lambda path: (path / "modules.json").write_text("{}"), r"modules\.json"),
    "no JSON": (lambda path: (path / ST_FILE).write_text("{"), ST_FILE),
}


@pytest.fixture(scope="module")
def with_dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Transformer, Pooling and Dense."""
    from sentence_transformers.base.modules import Dense

    return directory(tmp_path_factory.mktemp("dense"), Dense(32, 8))


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_done_is_refused_by_file_and_field(case: str, with_dense: Path, tmp_path: Path) -> None:
    """Whatever the library makes of it."""
    path = shutil.copytree(with_dense, tmp_path / "model")
    change, words = REFUSED[case]
    change(path)
    with pytest.raises(ModelError, match=words) as refusal:
        model_of(path, "embedding")
    assert "streamer-model-" not in str(refusal.value)


@pytest.mark.parametrize(
    "change",
    [
        fields(BERT_FILE, unpad_inputs=False, model_args={"attn_implementation": "sdpa", "dtype": "float32"}),
        fields(BERT_FILE, model_args={"attn_implementation": "eager"}, tokenizer_args={"padding_side": "left"}),
        fields(BERT_FILE, config_args={"trust_remote_code": True}, processing_kwargs={"chat_template": {"a": 1}}),
        fields(ST_FILE, prompts={"query": None}, default_prompt_name="query", novel=1),
        fields(ST_FILE, model_type=..., similarity_fn_name=None),
        lambda path: (path / ST_FILE).unlink(),
        lambda path: (path / BERT_FILE).unlink(),
    ],
)
def test_what_changes_nothing_is_no_reason(change: Callable[[Path], None], with_dense: Path, tmp_path: Path) -> None:
    """The library makes the same vectors with and without."""
    path = shutil.copytree(with_dense, tmp_path / "model")
    change(path)
    compare(path)


def test_attention_of_a_package_that_is_not_here_is_the_default(with_dense: Path, tmp_path: Path) -> None:
    """As config.json may name it; the library would refuse to load."""
    path = shutil.copytree(with_dense, tmp_path / "model")
    edit(path / BERT_FILE, model_args={"attn_implementation": "flash_attention_2"})
    one, other = (outputs(model_of(files, "embedding"), TEXTS[:1])[0]["vector"] for files in (path, with_dense))
    assert one == near(other)


@pytest.mark.parametrize("options", [{"pooling": "mean"}, {"route": "query"}])
def test_options_that_a_static_model_can_not_take(options: dict[str, Any], tmp_path: Path) -> None:
    """They are refused by name."""
    with pytest.raises(ModelError, match=f"options.{next(iter(options))}"):
        model_of(static(tmp_path), "embedding", **options)


def test_options_of_vectors_with_a_model_of_inference(tmp_path: Path) -> None:
    """A prompt or pooling would be read by nobody."""
    labels = ("contradiction", "neutral", "entailment")
    path = tiny(tmp_path, BERT, "ForSequenceClassification", labels=labels)
    with pytest.raises(ModelError, match=r"options.prompt"):
        model_of(path, "zero-shot-classification", prompt="a ")


# --- cross-encoders ---

PAIRS: list[Event] = [(text, None, {"candidates": CANDIDATES}) for text in TEXTS]


def cross_encoder(path: Path, **how: Any) -> Path:
    """As the library saves one."""
    from sentence_transformers import CrossEncoder

    raw = tiny(path / "raw", BERT, "ForSequenceClassification", labels=("relevant",))
    CrossEncoder(str(raw), device="cpu", **how).save_pretrained(str(path / "model"), create_model_card=False)
    return path / "model"


def compare_scores(path: Path, options: dict[str, Any] | None = None, **how: Any) -> None:
    """Against `predict`, one pair at a time."""
    from sentence_transformers import CrossEncoder

    own = CrossEncoder(str(path), device="cpu", local_files_only=True)
    for text, output in zip(TEXTS, outputs(model_of(path, "rerank", **(options or {})), PAIRS), strict=True):
        expected = [own.predict([(text, other)], show_progress_bar=False, **how)[0] for other in CANDIDATES]
        assert output["scores"] == near(expected)


def test_cross_encoders(tmp_path: Path) -> None:
    """Their prompts go before the text alone."""
    import torch

    path = cross_encoder(tmp_path, prompts=PROMPTS, default_prompt_name="query", activation_fn=torch.nn.Tanh())
    compare_scores(path)
    compare_scores(path, {"prompt_name": "passage"}, prompt_name="passage")
    compare_scores(path, {"prompt": "", "activation": "none"}, prompt="", activation_fn=torch.nn.Identity())
    edit(path / BERT_FILE, max_seq_length=12)
    compare_scores(path)
    with pytest.raises(ModelError, match="no prompt 'document'"):
        model_of(path, "rerank", prompt_name="document")


def test_cross_encoders_of_before(tmp_path: Path) -> None:
    """Without modules.json, the activation is in config.json, by either name; or it is sigmoid."""
    path = tiny(tmp_path, BERT, "ForSequenceClassification", labels=("relevant",))
    compare_scores(path)
    edit(path / "config.json", sbert_ce_default_activation_function="torch.nn.modules.linear.Identity")
    compare_scores(path)
    edit(path / "config.json", sentence_transformers={"activation_fn": "torch.nn.modules.activation.SiLU"})
    compare_scores(path)
    edit(path / "config.json", sentence_transformers={"version": "4.0.0"})
    compare_scores(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (fields(ST_FILE, model_type="SentenceTransformer"), rf"{ST_FILE}.*model_type"),
        (fields(ST_FILE, activation_fn="custom.Function"), rf"{ST_FILE}.*activation_fn.*custom\.Function"),
        (fields(BERT_FILE, transformer_task="text-generation"), rf"{BERT_FILE}.*transformer_task.*text-generation"),
        (modules(OWN, "my.Model"), r"modules\.json.*my\.Model"),
    ],
)
def test_cross_encoders_that_are_refused(change: Callable[[Path], None], words: str, tmp_path: Path) -> None:
    """By file and field."""
    path = cross_encoder(tmp_path)
    change(path)
    with pytest.raises(ModelError, match=words):
        model_of(path, "rerank")


def test_a_language_model_as_cross_encoder_is_refused(tmp_path: Path) -> None:
    """Its score is of the tokens yes and no, which task rerank does not read."""
    path = cross_encoder(tmp_path)
    score = {
        "idx": 1,
        "name": "1",
        "path": "1",
        "type": "sentence_transformers.cross_encoder.modules.logit_score.LogitScore",
    }
    said = json.loads((path / "modules.json").read_text())
    (path / "modules.json").write_text(json.dumps([*said, score]))
    with pytest.raises(ModelError, match="LogitScore"):
        model_of(path, "rerank")


def test_no_answer_depends_on_its_batch(tmp_path: Path) -> None:
    """Candidates without a text to compare them with are that event's failure, and the others' scores stay."""
    path = directory(tmp_path)
    alone = outputs(model_of(path, "similarity"), [(TEXTS[0], CANDIDATES[0])])
    failure, found = outcomes(model_of(path, "similarity"), [TEXTS[1], (TEXTS[0], CANDIDATES[0])])
    assert isinstance(failure, DataFailure)
    assert failure.code is Code.VALIDATE_PARAMS
    assert isinstance(found, dict)
    assert found["score"] == near(alone[0]["score"])
