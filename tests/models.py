"""Models for tests: tiny random-weight ones built from a config, and Python classes that misbehave."""

from __future__ import annotations

import ctypes
import errno
import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any, Literal

from streamer.model import Input

WORDS = (
    "the a film was good bad great awful and but not very i love hate it this that music plot long short end we they "
    "sehr gut schlecht été naïve 映 画 ! ? . , ' - 0 1 2 3 4 5 6 7 8 9"
)
Problem = Literal["regression", "single_label_classification", "multi_label_classification"]
LETTERS = "abcdefghijklmnopqrstuvwxyzäöüßéèñ"


def write_tokenizer(path: Path, max_tokens: int) -> int:
    """A lower-casing WordPiece tokenizer over few words and all letters; returns the size of its vocabulary."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS.split(), *LETTERS, *(f"##{one}" for one in LETTERS)]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocab=vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    fast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=max_tokens,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )
    fast.save_pretrained(path)
    return len(vocabulary)


def tiny_bert(
    path: Path,
    *,
    labels: tuple[str, ...] = ("negative", "neutral", "positive"),
    max_tokens: int = 64,
    layers: int = 2,
    width: int = 32,
    problem_type: Problem | None = None,
    seed: int = 0,
) -> Path:
    """A BERT for text-classification with random weights, as transformers saves it; loads in milliseconds."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    path.mkdir(parents=True, exist_ok=True)
    config = BertConfig(
        vocab_size=write_tokenizer(path, max_tokens),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=2 * width,
        max_position_embeddings=max_tokens,
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
        problem_type=problem_type,
        initializer_range=0.5,  # wide, so that different texts get clearly different scores
    )
    torch.manual_seed(seed)
    BertForSequenceClassification(config).save_pretrained(path)  # type: ignore[no-untyped-call]
    return path


def tiny_encoder(path: Path, *, max_tokens: int = 64, width: int = 32, seed: int = 0) -> Path:
    """The same without a head, for embedding; it has no sentence-transformers files."""
    import torch
    from transformers import BertConfig, BertModel

    path.mkdir(parents=True, exist_ok=True)
    config = BertConfig(
        vocab_size=write_tokenizer(path, max_tokens),
        hidden_size=width,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=2 * width,
        max_position_embeddings=max_tokens,
    )
    torch.manual_seed(seed)
    BertModel(config).save_pretrained(path)  # type: ignore[no-untyped-call]
    return path


class Echo:
    """Answers with the length of each text; its version, cacheability and params are its own."""

    version = "echo-1"
    cacheable = False

    def __init__(self, options: dict[str, Any]) -> None:
        self.add = int(options.get("add", 0))

    def check_params(self, params: dict[str, Any]) -> str | None:
        """Knows `times`."""
        return None if params.keys() <= {"times"} else "the only param is times"

    def predict(self, inputs: list[Input]) -> list[dict[str, Any]]:
        """`length` of text and pair, times the event's param."""
        return [
            {"length": (len(one.text) + len(one.text_pair or "") + self.add) * int(one.params.get("times", 1))}
            for one in inputs
        ]


class Marked:
    """Does to a whole batch what the words in its texts say; answers `{"ok": 1}` to those without any.

    POISON raises · NAN gives not-a-number · KILL ends in SIGKILL · SEGV in a segmentation fault · HANG sleeps for an
    hour, HANG_GIL does so with the interpreter lock · EXIT leaves · OOM and BROKEN raise as torch does on a GPU, QUOTE
    with torch's words · SPOIL makes all that comes after it NaN.
    Options: `fail_all` raises for all but the probe, `memory` raises out of memory for more texts than that.
    """

    version = "marked-1"
    probe = "probe"

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        self.spoiled = False

    def predict(self, inputs: list[Input]) -> list[dict[str, Any]]:
        """See the class."""
        if len(inputs) > int(self.options.get("memory", len(inputs))):
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        for one in inputs:
            self._act(one.text)
        return [{"ok": float("nan") if "NAN" in one.text or self.spoiled else 1} for one in inputs]

    def _act(self, text: str) -> None:
        if "POISON" in text or (self.options.get("fail_all") and text != self.probe):
            raise ValueError(f"can't read {text}")
        if "KILL" in text:
            os.kill(os.getpid(), signal.SIGKILL)
        if "SEGV" in text:
            ctypes.string_at(0)
        if "HANG_GIL" in text:
            ctypes.PyDLL(None).sleep(3600)
        elif "HANG" in text:
            time.sleep(3600)
        if "EXIT" in text:
            raise SystemExit(3)
        if "OOM" in text:
            raise MemoryError
        if "BROKEN" in text:
            raise AcceleratorError("CUDA error: device-side assert triggered")
        if "QUOTE" in text:
            raise RuntimeError("CUDA error: out of memory")
        self.spoiled = self.spoiled or "SPOIL" in text


class AcceleratorError(RuntimeError):
    """By the name of torch's own."""


class Careful(Marked):
    """Does what the words in an event's param `do` say while it checks the params, before any forward batch: EXIT ends
    the process, OOM raises, the others as `Marked`'s."""

    def check_params(self, params: dict[str, Any]) -> str | None:
        """See the class."""
        if params["do"] == "EXIT":
            os._exit(9)
        self._act(params["do"])
        return None


class Forking(Marked):
    """Has a process of its own that lives for ever, prints, and has a thread that fails."""

    def __init__(self, options: dict[str, Any]) -> None:
        super().__init__(options)
        self.helper = multiprocessing.get_context("fork").Process(target=time.sleep, args=(3600,), daemon=True)
        self.helper.start()
        threading.Thread(target=self._act, args=("POISON",)).start()

    def predict(self, inputs: list[Input]) -> list[dict[str, Any]]:
        """As `Marked`, with the helper's process id."""
        print("PRINTED", flush=True)
        return [one | {"helper": self.helper.pid} for one in super().predict(inputs)]


class Starts(Marked):
    """Counts its starts in the file of option `count`. Start number `full` fails for want of disk, `wrong` for another
    reason, `slow` sleeps."""

    def __init__(self, options: dict[str, Any]) -> None:
        super().__init__(options)
        with Path(options["count"]).open("a+") as file:
            file.write("x")
            file.seek(0)
            number = len(file.read())
        if number in options.get("full", ()):
            raise OSError(errno.ENOSPC, "no space left")
        if number in options.get("wrong", ()):
            raise ValueError("half a file")
        if number in options.get("slow", ()):
            time.sleep(3600)


class Unloadable:
    """Can't be made."""

    def __init__(self, options: dict[str, Any]) -> None:
        raise OSError("the weights are on the other disk")

    def predict(self, inputs: list[Input]) -> list[dict[str, Any]]:
        """Never called."""
        raise AssertionError("asked, though it could not be made")


class NanAlways:
    """Gives not-a-number for everything, the probe too, once it was asked more than `fine` times."""

    version = "nan-1"

    def __init__(self, options: dict[str, Any]) -> None:
        self.left = int(options["fine"])

    def predict(self, inputs: list[Input]) -> list[dict[str, Any]]:
        """See the class."""
        self.left -= 1
        return [{"score": 0.5 if self.left >= 0 else float("nan")} for _ in inputs]
