"""Model directories that are not what they should be, each with what is said of it; and those that only look wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from streamer.errors import BrokenModelError, ExitCode, ModelError
from streamer.inference.models import heads
from streamer.inference.spec import WorkerSpec
from streamer.inference.tasks.families import load
from tests.language_models import tiny_decoder, tiny_seq2seq
from tests.models import tiny_bert, tiny_encoder
from tests.unit.tasks_kit import TEXTS, near, outputs, reference

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 438000\n"
Break = Callable[[Path], object]
Weights = dict[str, np.ndarray[Any, Any]]


def model_in(path: Path, task: str = "text-classification", **options: Any) -> Any:
    """The model of a task over a directory, in float32 by torch."""
    return load(WorkerSpec("test", task, str(path), dtype="float32", backend="torch", options=options))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A whole model of each kind; tests break copies."""
    root = tmp_path_factory.mktemp("whole")
    return {
        "classifier": tiny_bert(root / "classifier"),
        "encoder": tiny_encoder(root / "encoder"),
        "gpt2": tiny_decoder(root / "gpt2", "gpt2"),
        "t5": tiny_seq2seq(root / "t5", "t5"),
        "bart": tiny_seq2seq(root / "bart", "bart"),
    }


@pytest.fixture
def copy(made: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """Makes a copy of a whole model to be broken."""
    return lambda kind: Path(shutil.copytree(made[kind], tmp_path / "model"))


def refusal(path: Path, task: str = "text-classification") -> str:
    """What is said of a directory, in one line that names neither a temporary one nor a class of an exception."""
    with pytest.raises(ModelError) as caught:
        model_in(path, task)
    message = str(caught.value)
    assert "streamer-model-" not in message
    assert "\n" not in message
    return message


def edit(file: str, **changes: Any) -> Break:
    """Fields of a JSON file changed; None takes one out."""

    def change(path: Path) -> None:
        fields = json.loads((path / file).read_text()) if (path / file).is_file() else {}
        fields |= changes
        (path / file).write_text(json.dumps({key: value for key, value in fields.items() if value is not None}))

    return change


def write(file: str, content: str | bytes) -> Break:
    """A file's content replaced."""

    def change(path: Path) -> None:
        (path / file).parent.mkdir(exist_ok=True)
        (path / file).write_bytes(content.encode() if isinstance(content, str) else content)

    return change


def drop(*files: str) -> Break:
    """Files that are not there."""

    def change(path: Path) -> None:
        for file in files:
            (path / file).unlink(missing_ok=True)

    return change


def reweigh(make: Callable[[Weights], Weights]) -> Break:
    """Other weights in model.safetensors."""

    def change(path: Path) -> None:
        save_file(make(load_file(path / "model.safetensors")), path / "model.safetensors")

    return change


def also(*changes: Break) -> Break:
    """One change after the other."""

    def change(path: Path) -> None:
        for one in changes:
            one(path)

    return change


def renamed(make: Callable[[str], str]) -> Break:
    """The same weights under other names."""
    return reweigh(lambda weights: {make(name): values for name, values in weights.items()})


def without(part: str) -> Break:
    """No weights with this in their names."""
    return reweigh(lambda weights: {name: values for name, values in weights.items() if part not in name})


def having(name: str, *shape: int) -> Break:
    """Weights that the network has not."""
    return reweigh(lambda weights: weights | {name: np.ones(shape, np.float32)})


def truncated(path: Path) -> None:
    """The end of the weights is lost."""
    data = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").write_bytes(data[:-100])


def sharded(path: Path) -> None:
    """In two files, of which one was not copied."""
    (path / "model.safetensors").rename(path / "model-00001-of-00002.safetensors")
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))


def below(folder: str) -> Break:
    """The model lies one level deeper."""

    def change(path: Path) -> None:
        files = list(path.iterdir())
        (path / folder).mkdir()
        for file in files:
            file.rename(path / folder / file.name)

    return change


def no_tokenizer(path: Path) -> None:
    """None of its files."""
    drop("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")(path)


def both(*changes: Break) -> Break:
    """One after the other."""
    return lambda path: [change(path) for change in changes]


def vocabulary_file(path: Path) -> None:
    """vocab.txt alone, as BERT's first releases had it."""
    vocabulary = json.loads((path / "tokenizer.json").read_text())["model"]["vocab"]
    no_tokenizer(path)
    (path / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.__getitem__)) + "\n")
    edit("tokenizer_config.json", strip_accents=False)(path)


def more_layers(weights: Weights) -> Weights:
    """As many again as config.json says."""
    deeper = {name.replace(".layer.1.", ".layer.2."): values for name, values in weights.items() if ".layer.1." in name}
    return weights | deeper


def not_a_number(weights: Weights) -> Weights:
    """In one place of one matrix."""
    weights["bert.encoder.layer.1.output.dense.weight"][3, 5] = np.nan
    return weights


BROKEN: dict[str, tuple[str, str, Break, tuple[str, ...]]] = {
    # files that are not whole
    "pointer for config.json": (
        "classifier",
        "text-classification",
        write("config.json", POINTER),
        ("model/config.json is a Git LFS pointer", "git lfs pull"),
    ),
    "pointer for weights": (
        "classifier",
        "text-classification",
        write("model.safetensors", POINTER),
        ("model/model.safetensors is a Git LFS pointer", "git lfs pull"),
    ),
    "pointer for tokenizer": (
        "classifier",
        "text-classification",
        write("tokenizer.json", POINTER),
        ("model/tokenizer.json is a Git LFS pointer",),
    ),
    "empty weights": (
        "classifier",
        "text-classification",
        write("model.safetensors", ""),
        ("model/model.safetensors is empty",),
    ),
    "empty config": ("classifier", "text-classification", write("config.json", ""), ("model/config.json is empty",)),
    "truncated weights": ("classifier", "text-classification", truncated, ("model.safetensors is truncated", "again")),
    "truncated header": (
        "classifier",
        "text-classification",
        write("model.safetensors", (1000).to_bytes(8, "little") + b'{"a":'),
        ("model.safetensors is truncated, within its header",),
    ),
    "a web page for weights": (
        "classifier",
        "text-classification",
        write("model.safetensors", "<!DOCTYPE html><html></html>"),
        ("model.safetensors is damaged, or not a safetensors file",),
    ),
    "a shard is missing": (
        "classifier",
        "text-classification",
        sharded,
        ("model.safetensors.index.json names model-00002-of-00002.safetensors", "not there"),
    ),
    "config.json is no JSON": (
        "classifier",
        "text-classification",
        write("config.json", "{'model_type': 'bert'}"),
        ("model/config.json is not JSON: ",),
    ),
    "config.json is a list": (
        "classifier",
        "text-classification",
        write("config.json", "[]"),
        ("model/config.json is not a JSON object but a list",),
    ),
    "generation_config.json is no JSON": (
        "gpt2",
        "text-generation",
        write("generation_config.json", '{"temperature": 0.5,}'),
        ("model/generation_config.json is not JSON: ",),
    ),
    "weights under another name": (
        "classifier",
        "text-classification",
        lambda path: (path / "model.safetensors").rename(path / "consolidated.safetensors"),
        ("has consolidated.safetensors and neither model.safetensors nor", "rename it"),
    ),
    # something else than a model
    "adapter": (
        "classifier",
        "text-classification",
        also(write("adapter_config.json", '{"base_model_name_or_path": "acme/base"}'), drop("config.json")),
        ("adapter_config.json", "LoRA", "name acme/base as the model, and this directory as its adapter"),
    ),
    "adapter beside a model": (
        "classifier",
        "text-classification",
        write("adapter_config.json", '{"peft_type": "LORA"}'),
        ("adapter_config.json", "its base model", "this directory as its adapter"),
    ),
    "GGUF": (
        "classifier",
        "text-classification",
        also(drop("model.safetensors"), write("model-q4.gguf", "GGUF")),
        ("only in model-q4.gguf, the format of llama.cpp",),
    ),
    "ONNX": (
        "classifier",
        "text-classification",
        also(drop("model.safetensors"), write("onnx/model.onnx", "x")),
        ("only in model.onnx, the format of ONNX",),
    ),
    "TensorFlow": (
        "classifier",
        "text-classification",
        also(drop("model.safetensors"), write("tf_model.h5", "x")),
        ("only in tf_model.h5", "save them as safetensors"),
    ),
    "Flax": (
        "classifier",
        "text-classification",
        also(drop("model.safetensors"), write("flax_model.msgpack", "x")),
        ("only in flax_model.msgpack", "save them as safetensors"),
    ),
    "a level too high": (
        "classifier",
        "text-classification",
        below("checkpoint-500"),
        ("has no config.json", "did you mean", "model/checkpoint-500?"),
    ),
    "quantised": (
        "gpt2",
        "scoring",
        edit("config.json", quantization_config={"quant_method": "gptq", "bits": 4}),
        ("model/config.json has quantization_config", "gptq"),
    ),
    "quantised, text part": (
        "gpt2",
        "scoring",
        edit("config.json", text_config={"quantization_config": {"quant_method": "awq"}}),
        ("quantization_config", "awq"),
    ),
    "whole numbers for weights": (
        "classifier",
        "text-classification",
        reweigh(lambda weights: weights | {"classifier.weight": np.ones((3, 32), np.int8)}),
        ("classifier.weight as I8", "quantised"),
    ),
    # configuration
    "no model_type": (
        "classifier",
        "text-classification",
        edit("config.json", model_type=None),
        ("model/config.json has no model_type",),
    ),
    "unknown model_type": (
        "classifier",
        "text-classification",
        edit("config.json", model_type="acme"),
        ("model/config.json has model_type 'acme'", "does not know"),
    ),
    "a model of its own code": (
        "classifier",
        "text-classification",
        edit("config.json", model_type="acme", auto_map={"AutoModel": "modeling.Acme"}),
        ("model_type 'acme'", "auto_map", "own code"),
    ),
    "a field of the wrong type": (
        "classifier",
        "text-classification",
        edit("config.json", hidden_size="wide"),
        ("model/config.json is refused by transformers", "hidden_size"),
    ),
    "labels do not match their number": (
        "classifier",
        "text-classification",
        edit("config.json", num_labels=5),
        ("config.json has num_labels = 5, but 3 names in id2label",),
    ),
    # weights
    "no pooler where it is read": (
        "classifier",
        "text-classification",
        without("pooler"),
        ("lack bert.pooler.dense.bias", "not trained for text-classification"),
    ),
    "no head": (
        "encoder",
        "text-classification",
        edit("config.json", architectures=None),
        ("lack classifier.bias", "not trained for text-classification"),
    ),
    "a layer is missing": (
        "classifier",
        "text-classification",
        without("layer.1."),
        ("lack bert.encoder.layer.1.", "not complete", "num_hidden_layers"),
    ),
    "more layers than configured": (
        "classifier",
        "text-classification",
        reweigh(more_layers),
        ("have bert.encoder.layer.2.", "num_hidden_layers"),
    ),
    "more layers than configured, without head": (
        "encoder",
        "embedding",
        reweigh(more_layers),
        ("encoder.layer.2.", "num_hidden_layers"),
    ),
    "saved by DataParallel": (
        "classifier",
        "text-classification",
        renamed(lambda name: f"module.{name}"),
        ("named module.bert.", "wrapper", "'module.'"),
    ),
    "saved by Lightning": (
        "classifier",
        "text-classification",
        renamed(lambda name: f"model.{name}"),
        ("named model.bert.", "wrapper", "'model.'"),
    ),
    "unmerged adapter weights": (
        "encoder",
        "embedding",
        having("encoder.layer.0.attention.self.query.lora_A.weight", 4, 32),
        ("lora_A.weight, of an adapter", "merge_and_unload"),
    ),
    "a layer that the network has not": (
        "classifier",
        "text-classification",
        having("crf.transitions", 3, 3),
        ("have crf.transitions, which BertForSequenceClassification has not",),
    ),
    "labels of another number": (
        "classifier",
        "text-classification",
        edit("config.json", id2label={"0": "a", "1": "b"}, label2id={"a": 0, "b": 1}),
        ("classifier.bias of shape (3)", "makes it (2)", "id2label"),
    ),
    "a vocabulary of another size": (
        "classifier",
        "text-classification",
        edit("config.json", vocab_size=50),
        ("word_embeddings.weight of shape", "makes it (50, 32)", "vocab_size"),
    ),
    # heads
    "a classifier as a token classifier": (
        "classifier",
        "token-classification",
        also(),
        ("architectures name BertForSequenceClassification", "needs BertForTokenClassification"),
    ),
    "a classifier as a reader": ("classifier", "question-answering", also(), ("needs BertForQuestionAnswering",)),
    "a classifier fills masks": ("classifier", "fill-mask", also(), ("needs BertForMaskedLM",)),
    "a masked model as a language model": (
        "classifier",
        "scoring",
        edit("config.json", architectures=["BertForMaskedLM"]),
        ("architectures name BertForMaskedLM", "needs BertLMHeadModel"),
    ),
    "a decoder without head as a language model": (
        "gpt2",
        "scoring",
        edit("config.json", architectures=["GPT2Model"]),
        ("architectures name GPT2Model", "needs GPT2LMHeadModel"),
    ),
    "a decoder's classifier as a language model": (
        "gpt2",
        "text-generation",
        edit("config.json", architectures=["GPT2ForSequenceClassification"]),
        ("architectures name GPT2ForSequenceClassification",),
    ),
    "a classifier as a translator": (
        "bart",
        "text2text-generation",
        edit("config.json", architectures=["BartForSequenceClassification"]),
        ("architectures name BartForSequenceClassification", "needs BartForConditionalGeneration"),
    ),
    "an architecture without the task": (
        "t5",
        "scoring",
        also(),
        ("does not fit task scoring (config.json: model_type is t5, is_encoder_decoder is true",),
    ),
    # tokenizer
    "no tokenizer": (
        "classifier",
        "text-classification",
        no_tokenizer,
        ("model has no tokenizer: add tokenizer.json, or vocab.txt",),
    ),
    "no tokenizer of a language model": ("gpt2", "scoring", no_tokenizer, ("model has no tokenizer", "vocab.json")),
    "only a tokenizer's configuration": (
        "classifier",
        "text-classification",
        drop("tokenizer.json"),
        ("model has no tokenizer: add tokenizer.json",),
    ),
    "only a SentencePiece model": (
        "t5",
        "summarization",
        also(no_tokenizer, write("spiece.model", b"\x0a\x05\x0a\x01a\x15\x00")),
        ("only as spiece.model", "pip install sentencepiece"),
    ),
    "a SentencePiece model under another name": (
        "classifier",
        "text-classification",
        also(no_tokenizer, write("sentencepiece.bpe.model", b"\x0a\x05\x0a\x01a\x15\x00")),
        ("only as sentencepiece.bpe.model", "pip install sentencepiece"),
    ),
    "no merges": (
        "gpt2",
        "scoring",
        also(no_tokenizer, write("vocab.json", json.dumps({chr(97 + n): n for n in range(26)}))),
        ("model has no merges.txt", "vocab.json"),
    ),
    "tokenizer.json is no JSON": (
        "classifier",
        "text-classification",
        write("tokenizer.json", '{"version": "1.0", "mod'),
        ("model/tokenizer.json is not JSON: ",),
    ),
    "tokenizer.json of another format": (
        "classifier",
        "text-classification",
        write("tokenizer.json", '{"version": "1.0", "added_tokens": [], "model": {"type": "Telepathy"}}'),
        ("the tokenizer in", "model can't be loaded"),
    ),
    "a tokenizer of its own code": (
        "classifier",
        "text-classification",
        edit("tokenizer_config.json", tokenizer_class="AcmeTokenizer", auto_map={"AutoTokenizer": ["a.Acme", None]}),
        ("tokenizer_config.json has tokenizer_class 'AcmeTokenizer'", "own code"),
    ),
    "a tokenizer class that nobody has": (
        "classifier",
        "text-classification",
        also(drop("tokenizer.json"), edit("tokenizer_config.json", tokenizer_class="AcmeTokenizer")),
        ("tokenizer_class 'AcmeTokenizer', which transformers does not have",),
    ),
    "an added token of another number": (
        "classifier",
        "text-classification",
        also(vocabulary_file, write("added_tokens.json", '{"<new>": 400}')),
        ("model/added_tokens.json gives the token '<new>' the id 400", "another model"),
    ),
    "a slow tokenizer": (
        "classifier",
        "text-classification",
        also(
            no_tokenizer,
            write("vocab.txt", "<cls>\n<pad>\n<eos>\n<unk>\nL\nA\nG\n<mask>\n"),
            edit("tokenizer_config.json", tokenizer_class="EsmTokenizer"),
        ),
        ("EsmTokenizer, which has no fast form",),
    ),
    "a tokenizer of two minds": (
        "classifier",
        "text-classification",
        edit("tokenizer_config.json", tokenizer_class="BertTokenizer", do_lower_case=False),
        ("tokenizer.json and its class BertTokenizer split text differently", "PreTrainedTokenizerFast"),
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_no_whole_model_is_refused_by_its_file(copy: Callable[[str], Path], case: str) -> None:
    """Each message says what the file is, where it is as the user sees it, and what to do."""
    kind, task, change, words = BROKEN[case]
    path = copy(kind)
    change(path)
    message = refusal(path, task)
    assert [one for one in words if one not in message] == []


def test_a_directory_within_a_model_is_refused_with_the_models(copy: Callable[[str], Path]) -> None:
    """One level too low, as 1_Pooling is."""
    path = copy("encoder")
    write("1_Pooling/config.json", '{"pooling_mode_mean_tokens": true}')(path)
    assert f"has no *.safetensors: did you mean {path}?" in refusal(path / "1_Pooling", "embedding")
    (path / "1_Pooling" / "empty").mkdir()
    assert "it needs config.json" in refusal(path / "1_Pooling" / "empty", "embedding")


def test_weights_that_are_no_numbers_halt(copy: Callable[[str], Path]) -> None:
    """A restart gives the same: the tensor is named, and the exit code is that of a halt."""
    path = copy("classifier")
    reweigh(not_a_number)(path)
    with pytest.raises(BrokenModelError, match=r"NaN or infinity in bert.encoder.layer.1.output.dense.weight \(1 of "):
        model_in(path)
    assert BrokenModelError.exit_code is ExitCode.HALTED


HARMLESS: dict[str, tuple[str, str, Break]] = {
    "attention chosen": ("classifier", "text-classification", edit("config.json", _attn_implementation="eager")),
    "attention of another package": (
        "classifier",
        "text-classification",
        edit("config.json", _attn_implementation="flash_attention_2"),
    ),
    "attention chosen by itself": (
        "classifier",
        "text-classification",
        edit("config.json", _attn_implementation_autoset=True),
    ),
    "code beside a known architecture": (
        "classifier",
        "text-classification",
        also(
            edit("config.json", auto_map={"AutoConfig": "acme/x--configuration.Acme", "AutoModel": "modeling.Acme"}),
            edit("tokenizer_config.json", auto_map={"AutoTokenizer": [None, "acme/x--tokenization.Acme"]}),
        ),
    ),
    "infinity": ("classifier", "text-classification", edit("config.json", time_limit=[0.0, float("inf")])),
    "tuples asked for": (
        "classifier",
        "text-classification",
        edit("config.json", return_dict=False, output_hidden_states=True),
    ),
    "a vocabulary file": ("classifier", "text-classification", vocabulary_file),
    "an added token beside a vocabulary file": (
        "classifier",
        "text-classification",
        both(vocabulary_file, write("added_tokens.json", '{"[MASK]": 4}')),
    ),
    "a tokenizer class of another release": (
        "classifier",
        "text-classification",
        edit("tokenizer_config.json", tokenizer_class="AcmeTokenizerFast"),
    ),
    "no architectures": ("classifier", "text-classification", edit("config.json", architectures=None)),
    "an architecture of an own name": (
        "classifier",
        "text-classification",
        edit("config.json", architectures=["AcmeForSequenceClassification"]),
    ),
    "computed weights": (
        "classifier",
        "text-classification",
        reweigh(lambda weights: weights | {"bert.embeddings.position_ids": np.arange(64)[None]}),
    ),
    "a head of pretraining beside": (
        "classifier",
        "text-classification",
        having("cls.seq_relationship.weight", 2, 32),
    ),
}


@pytest.mark.parametrize("case", HARMLESS)
def test_what_only_looks_wrong_is_served_as_it_is(
    made: dict[str, Path], copy: Callable[[str], Path], case: str
) -> None:
    """The answers are those of the model without it."""
    kind, task, change = HARMLESS[case]
    path = copy(kind)
    change(path)
    texts = TEXTS[2:4]
    expected = [one["score"] for one in outputs(model_in(made[kind], task), texts)]
    assert [one["score"] for one in outputs(model_in(path, task), texts)] == near(expected)


def test_an_encoder_needs_no_pooler_and_leaves_heads_aside(copy: Callable[[str], Path], made: dict[str, Path]) -> None:
    """Embedding reads the last hidden state alone: of a checkpoint without pooler, and of one with any head."""
    path = copy("encoder")
    without("pooler")(path)
    having("cls.predictions.bias", 64)(path)
    expected = outputs(model_in(made["encoder"], "embedding"), TEXTS[:3])
    found = outputs(model_in(path, "embedding"), TEXTS[:3])
    for ours, theirs in zip(found, expected, strict=True):
        assert ours["vector"] == near(theirs["vector"])
    assert outputs(model_in(made["classifier"], "embedding"), TEXTS[:3])


def test_weights_without_metadata_are_loaded(copy: Callable[[str], Path], made: dict[str, Path]) -> None:
    """As numpy's and other writers save them; `reweigh` does so too."""
    path = copy("classifier")
    reweigh(lambda weights: weights)(path)
    network, tokenizer = reference(made["classifier"], "ForSequenceClassification")
    logits = network(**tokenizer(TEXTS[2], return_tensors="pt")).logits.detach()[0].softmax(-1)
    assert outputs(model_in(path), TEXTS[2:3])[0]["score"] == near(float(logits.max()))


def test_tied_weights_need_not_be_there_twice(copy: Callable[[str], Path]) -> None:
    """A decoder's head is its embedding, whichever of the two the checkpoint has."""
    path = copy("gpt2")
    renamed(lambda name: "lm_head.weight" if name.endswith("wte.weight") else name)(path)
    assert outputs(model_in(path, "scoring"), TEXTS[:2])


@pytest.mark.parametrize(
    ("auto", "resolved", "architectures", "expected"),
    [
        ("AutoModelForSequenceClassification", "BertForSequenceClassification", [], ""),
        ("AutoModelForSequenceClassification", "BertForSequenceClassification", ["BertModel"], ""),
        ("AutoModelForSequenceClassification", "GPT2ForSequenceClassification", ["GPT2LMHeadModel"], "GPT2LMHeadModel"),
        ("AutoModelForTokenClassification", "BertForTokenClassification", ["BertCrfForTokenClassification"], ""),
        ("AutoModelForTokenClassification", "BertForTokenClassification", ["BertForMultipleChoice"], "Bert"),
        ("AutoModelForQuestionAnswering", "XLNetForQuestionAnsweringSimple", ["XLNetForQuestionAnswering"], ""),
        ("AutoModelForMaskedLM", "BertForMaskedLM", ["BertForPreTraining"], ""),
        ("AutoModelForMaskedLM", "XLMWithLMHeadModel", ["XLMWithLMHeadModel"], ""),
        ("AutoModelForMaskedLM", "BartForConditionalGeneration", ["BartForConditionalGeneration"], ""),
        ("AutoModelForCausalLM", "XLNetLMHeadModel", ["XLNetLMHeadModel"], ""),
        ("AutoModelForCausalLM", "LlamaForCausalLM", ["AcmeForCausalLM"], ""),
        ("AutoModelForCausalLM", "BartForCausalLM", ["BartForConditionalGeneration"], "Bart"),
        ("AutoModelForCausalLM", "Qwen2ForCausalLM", ["Qwen2Model"], "Qwen2Model"),
        ("AutoModelForSeq2SeqLM", "T5ForConditionalGeneration", ["T5WithLMHeadModel"], ""),
        ("AutoModelForSeq2SeqLM", "MarianMTModel", ["MarianMTModel"], ""),
        ("AutoModelForSeq2SeqLM", "BartForConditionalGeneration", ["BartModel"], ""),
        ("AutoModelForSeq2SeqLM", "T5ForConditionalGeneration", ["T5ForSequenceClassification"], "T5"),
        ("AutoModel", "BertModel", ["BertForQuestionAnswering"], ""),
    ],
)
def test_which_heads_serve_a_task(auto: str, resolved: str, architectures: list[str], expected: str) -> None:
    """By the names that releases of transformers gave them."""
    found = heads.other_head(auto, resolved, architectures)
    assert found.startswith(expected) if expected else found == ""


def test_the_text_part_of_a_larger_network_is_a_language_model() -> None:
    """Whose checkpoint names the whole."""
    whole = ["Mistral3ForConditionalGeneration"]
    assert heads.other_head("AutoModelForCausalLM", "MistralForCausalLM", whole, composite=True) == ""
    assert heads.other_head("AutoModelForCausalLM", "MistralForCausalLM", whole) == whole[0]


BERT_NAMES = ("bert.embeddings.word_embeddings.weight", "bert.encoder.layer.0.output.dense.bias", "classifier.weight")
GPT2_NAMES = ("transformer.wte.weight", "transformer.h.0.attn.c_attn.bias", "lm_head.weight")


@pytest.mark.parametrize(
    ("known", "prefix", "bare", "harmless", "fatal"),
    [
        (
            BERT_NAMES,
            "bert",
            False,
            (
                "bert.embeddings.position_ids",
                "bert.pooler.dense.weight",
                "cls.seq_relationship.weight",
                "sop_classifier.classifier.weight",
                "predictions.decoder.bias",
            ),
            (
                "bert.encoder.layer.1.output.dense.bias",
                "bert.encoder.layer.0.output.gate.weight",
                "bert.encoder.layer.0.output.adapters.a.weight",
                "classifier.dense.weight",
                "crf.transitions",
                "qa.weight",
            ),
        ),
        (
            GPT2_NAMES,
            "transformer",
            False,
            ("transformer.h.0.attn.bias", "transformer.h.0.attn.masked_bias", "multiple_choice_head.summary.weight"),
            ("transformer.h.1.attn.c_attn.bias", "transformer.h.0.attn.q_norm.weight", "lm_head.dense.weight"),
        ),
        (
            ("wte.weight", "h.0.attn.c_attn.bias"),
            "transformer",
            True,
            ("h.0.attn.bias", "lm_head.weight", "score.weight", "classifier.weight", "crf.transitions"),
            ("h.1.attn.c_attn.bias", "transformer.h.1.attn.c_attn.bias", "h.0.attn.c_attn.lora_A.weight"),
        ),
        (
            ("bert.encoder.layer.0.output.dense.bias", "cls.predictions.bias", "cls.predictions.decoder.weight"),
            "bert",
            False,
            ("cls.seq_relationship.weight", "cls.seq_relationship.bias", "bert.pooler.dense.weight"),
            ("cls.predictions.transform.dense.weight", "cls.other.weight"),
        ),
        (
            ("shared.weight", "encoder.block.0.layer.0.SelfAttention.q.weight", "decoder.final_layer_norm.weight"),
            "transformer",
            False,
            ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight", "final_logits_bias"),
            ("encoder.block.1.layer.0.SelfAttention.q.weight",),
        ),
    ],
)
def test_which_weights_a_network_may_leave_aside(
    known: tuple[str, ...], prefix: str, bare: bool, harmless: tuple[str, ...], fatal: tuple[str, ...]
) -> None:
    """What it computes, ties or has no head for; never a layer of its own."""
    assert heads.left_over({*harmless, *fatal}, known, prefix, bare=bare) == sorted(fatal)


def test_old_names_of_weights_are_read(copy: Callable[[str], Path], made: dict[str, Path]) -> None:
    """As TensorFlow's conversions named them."""
    path = copy("classifier")
    renamed(
        lambda name: name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
    )(path)
    assert outputs(model_in(path), TEXTS[:2]) == outputs(model_in(made["classifier"]), TEXTS[:2])
