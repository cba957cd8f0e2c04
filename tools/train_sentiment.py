"""Trains the demo's model: `python -m tools.train_sentiment --out DIR [--sdist FILE]`.

A BERT of 2 layers x 128 with a vocabulary of its own, trained from nothing on human-scored texts and words. It is small
enough to ship, and a demo needs no download. One thread, fixed seeds and a fixed order: the same versions of torch and
tokenizers on the same kind of processor give the same bytes.
"""

from __future__ import annotations

import argparse
import logging
import math
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from streamer.demo import events
from tools import vader

LABELS = ("negative", "positive")
SEED = 1
VOCABULARY = 4_000
MAX_TOKENS = 96
HIDDEN = 128
LAYERS = 2
DROPOUT = 0.3
EPOCHS = 3
BATCH = 32
LEARNING_RATE = 1e-3
WARM_UP = 0.06
# The demo's kind of text is the scarcest among the training texts: each tweet is seen this often an epoch.
TWEET_WEIGHT = 3
# A score s is learned as the probability sigmoid(STEEPNESS * s) of "positive": mild scores leave the model unsure.
STEEPNESS = 1.5
HELD_OUT_FILMS = 1_000
HELD_OUT_TWEETS = 300
CLEAR_SCORE = 1.0

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_log = logging.getLogger("tools.train_sentiment")


@dataclass(frozen=True, slots=True)
class Split:
    """No text of one part occurs in another, however its case and white space are."""

    train: list[vader.Snippet]
    held_out_tweets: list[vader.Snippet]
    held_out_films: list[vader.Snippet]
    demo_tweets: list[vader.Snippet]


def split(source: vader.Vader) -> Split:
    """Part the texts: the demo's tweets are those that it streams, and none of them is trained on."""
    rng = random.Random(SEED)
    demo_texts = {vader.fold(msgspec.json.decode(value)["text"]) for _, value in events()}
    demo_tweets = [tweet for tweet in source.texts["tweets"] if vader.fold(tweet.text) in demo_texts]
    tweets = [tweet for tweet in source.texts["tweets"] if vader.fold(tweet.text) not in demo_texts]
    films = list(source.texts["films"])
    rng.shuffle(tweets)
    rng.shuffle(films)
    held_out_tweets, tweets = tweets[:HELD_OUT_TWEETS], tweets[HELD_OUT_TWEETS:]
    held_out_films, films = films[:HELD_OUT_FILMS], films[HELD_OUT_FILMS:]
    kept_out = demo_texts | {vader.fold(snippet.text) for snippet in held_out_tweets + held_out_films}
    others = films + source.texts["products"] + source.texts["editorials"] + source.lexicon
    train = [snippet for snippet in tweets * TWEET_WEIGHT + others if vader.fold(snippet.text) not in kept_out]
    return Split(train, held_out_tweets, held_out_films, demo_tweets)


def build_tokenizer(texts: list[str]) -> Tokenizer:
    """Learn a lower-case WordPiece vocabulary. Runs of punctuation stay whole, so that ":)" can be a piece."""
    tokenizer = _words(models.WordPiece(unk_token="[UNK]"))
    # The trainer numbers "##c" pieces as it meets them, in an order that differs from run to run, and breaks ties by
    # number: naming them first makes the vocabulary the same each time. As special tokens they must not stay.
    characters = sorted({c for text in texts for c in tokenizer.normalizer.normalize_str(text) if not c.isspace()})
    named = [*_SPECIAL, *(f"##{character}" for character in characters)]
    trainer = trainers.WordPieceTrainer(vocab_size=VOCABULARY, special_tokens=named, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer = _words(models.WordPiece(tokenizer.get_vocab(), unk_token="[UNK]"))
    tokenizer.add_special_tokens(list(_SPECIAL))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")],
    )
    tokenizer.enable_truncation(MAX_TOKENS)
    return tokenizer


def _words(model: models.WordPiece) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("contiguous")]
    )
    return tokenizer


def build_model(vocabulary: int) -> BertForSequenceClassification:
    """Return the untrained model."""
    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        intermediate_size=4 * HIDDEN,
        max_position_embeddings=MAX_TOKENS,
        hidden_dropout_prob=DROPOUT,
        id2label=dict(enumerate(LABELS)),
        label2id={label: index for index, label in enumerate(LABELS)},
    )
    return BertForSequenceClassification(config)  # type: ignore[no-untyped-call]


def train(model: BertForSequenceClassification, tokenizer: Tokenizer, snippets: list[vader.Snippet]) -> None:
    """Fit the model to the scores, the learning rate rising for a while and then falling to nothing."""
    rows = [encoding.ids for encoding in tokenizer.encode_batch([snippet.text for snippet in snippets])]
    positive = torch.sigmoid(STEEPNESS * torch.tensor([snippet.score for snippet in snippets]))
    targets = torch.stack([1 - positive, positive], dim=1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    steps = EPOCHS * math.ceil(len(rows) / BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / (WARM_UP * steps), max(0.0, (steps - step) / ((1 - WARM_UP) * steps))),
    )
    rng = random.Random(SEED)
    model.train()
    for epoch in range(EPOCHS):
        total = 0.0
        for batch in _batches(rows, rng):
            ids, mask = _pad([rows[index] for index in batch])
            loss = torch.nn.functional.cross_entropy(model(ids, attention_mask=mask).logits, targets[batch])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += loss.item() * len(batch)
        _log.info("epoch %d of %d: loss %.3f", epoch + 1, EPOCHS, total / len(rows))


def measure(
    model: BertForSequenceClassification, tokenizer: Tokenizer, snippets: list[vader.Snippet], least_score: float = 0.0
) -> str:
    """Say how often the label is the sign of the human score, among texts at least that far from neutral."""
    chosen = [snippet for snippet in snippets if abs(snippet.score) >= least_score and snippet.score != 0]
    rows = [encoding.ids for encoding in tokenizer.encode_batch([snippet.text for snippet in chosen])]
    hits: dict[bool, list[bool]] = {True: [], False: []}
    model.eval()  # type: ignore[no-untyped-call]
    with torch.inference_mode():
        for start in range(0, len(rows), BATCH):
            ids, mask = _pad(rows[start : start + BATCH])
            labels = model(ids, attention_mask=mask).logits.argmax(dim=1).tolist()
            for snippet, label in zip(chosen[start : start + BATCH], labels, strict=True):
                hits[snippet.score > 0].append((snippet.score > 0) == (label == 1))
    right = sum(hits[True]) + sum(hits[False])
    balanced = (sum(hits[True]) / len(hits[True]) + sum(hits[False]) / len(hits[False])) / 2
    share = len(hits[True]) / len(chosen)
    return f"accuracy {right / len(chosen):.3f}, balanced {balanced:.3f}, {len(chosen)} texts, {share:.0%} positive"


def save(model: BertForSequenceClassification, tokenizer: Tokenizer, directory: Path) -> None:
    """Write weights in half precision (to be read in single), configuration and tokenizer."""
    model.half().save_pretrained(directory)  # type: ignore[no-untyped-call]
    config = directory / "config.json"
    config.write_bytes(
        msgspec.json.format(msgspec.json.encode(msgspec.json.decode(config.read_bytes()) | {"dtype": "float32"}))
        + b"\n"
    )
    PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        model_max_length=MAX_TOKENS,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_input_names=["input_ids", "attention_mask"],
    ).save_pretrained(directory)


def _batches(rows: list[list[int]], rng: random.Random) -> Iterator[list[int]]:
    """Yield the rows' numbers in shuffled batches of like lengths, so that little is padding."""
    order = list(range(len(rows)))
    rng.shuffle(order)
    batches: list[list[int]] = []
    for start in range(0, len(order), 40 * BATCH):
        chunk = sorted(order[start : start + 40 * BATCH], key=lambda index: len(rows[index]))
        batches += [chunk[first : first + BATCH] for first in range(0, len(chunk), BATCH)]
    rng.shuffle(batches)
    yield from batches


def _pad(rows: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids and attention mask, each (rows, longest row)."""
    longest = max(map(len, rows))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    return ids, mask


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.train_sentiment", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="directory to write the model to")
    parser.add_argument("--sdist", type=Path, help=f"{vader.SDIST_NAME}; fetched with pip if absent")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)
    try:
        with tempfile.TemporaryDirectory() as directory:
            source = vader.read_sdist(arguments.sdist or vader.fetch_sdist(Path(directory)))
    except (vader.SourceError, OSError) as error:
        sys.exit(str(error))
    parts = split(source)
    tokenizer = build_tokenizer([snippet.text for snippet in parts.train])
    model = build_model(tokenizer.get_vocab_size())
    _log.info("%d training texts, %d parameters", len(parts.train), sum(p.numel() for p in model.parameters()))
    started = time.process_time()
    train(model, tokenizer, parts.train)
    _log.info("trained in %.0f s of processor time", time.process_time() - started)
    save(model, tokenizer, arguments.out)
    shipped = BertForSequenceClassification.from_pretrained(arguments.out, local_files_only=True)
    for name, snippets in (
        ("held-out film snippets", parts.held_out_films),
        ("held-out tweets", parts.held_out_tweets),
        ("the demo's tweets", parts.demo_tweets),
    ):
        _log.info("%s: %s", name, measure(shipped, tokenizer, snippets))
        _log.info("%s, |score| >= 1: %s", name, measure(shipped, tokenizer, snippets, CLEAR_SCORE))


if __name__ == "__main__":
    main()
