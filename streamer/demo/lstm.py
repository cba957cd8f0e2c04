"""A model of one's own beside the transformers: `python:streamer.demo.lstm:LstmSentiment`, an LSTM in plain torch.

Nothing here is streamer's but the base class, which says what it calls and reads.
`tools/train_lstm.py` trained its weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

from streamer.model import Input, Model

WEIGHTS = Path(__file__).parent / "models" / "sentiment-lstm" / "model.safetensors"
TOKENIZER = Path(__file__).parent / "models" / "sentiment-micro" / "tokenizer.json"
LABELS = ("negative", "positive")
EMBEDDED = 24
HIDDEN = 32


class Lstm(torch.nn.Module):
    """Token ids to the log-odds of "positive": embedding, an LSTM in both directions, the mean over the tokens."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(vocabulary, EMBEDDED)
        self.dropout = torch.nn.Dropout(0.4)
        self.lstm = torch.nn.LSTM(EMBEDDED, HIDDEN, batch_first=True, bidirectional=True)
        self.head = torch.nn.Linear(2 * HIDDEN, 1)

    def forward(self, rows: list[list[int]]) -> torch.Tensor:
        """(rows,). Packed: padding never reaches the LSTM, so a text's answer does not hang on its neighbours."""
        lengths = torch.tensor([len(row) for row in rows])
        padded = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
        embedded = self.dropout(self.embedding(padded))
        packed = torch.nn.utils.rnn.pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
        states, _ = torch.nn.utils.rnn.pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        mean = states.sum(dim=1) / lengths.unsqueeze(1)
        logits: torch.Tensor = self.head(self.dropout(mean)).squeeze(1)
        return logits


def read_tokenizer() -> Tokenizer:
    """The one of the demo's transformer, without padding."""
    tokenizer = Tokenizer.from_file(str(TOKENIZER))
    tokenizer.no_padding()
    return tokenizer


class LstmSentiment(Model):
    """Output `{"label", "score"}`."""

    files = (WEIGHTS, TOKENIZER)
    probe = "What a lovely day!"

    def __init__(self, options: dict[str, Any]) -> None:
        """Has no options."""
        self._tokenizer = read_tokenizer()
        self._network = Lstm(self._tokenizer.get_vocab_size())
        self._network.load_state_dict(load_file(WEIGHTS))
        self._network.float().eval()

    def predict(self, inputs: list[Input]) -> list[dict[str, Any]]:
        """The likelier label of each text, and its probability."""
        rows = [encoding.ids for encoding in self._tokenizer.encode_batch([one.text for one in inputs])]
        with torch.inference_mode():
            positive = torch.sigmoid(self._network(rows)).tolist()
        return [{"label": LABELS[share >= 0.5], "score": max(share, 1 - share)} for share in positive]
