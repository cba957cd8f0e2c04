"""The rows that each way of running a network is held to: known texts, drawn tokens, and the longest row that time and
memory allow at a start."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import msgspec

from streamer.inference.backends.agreement import twin
from streamer.inference.backends.passes import Passes
from streamer.inference.backends.positions import token_vectors
from streamer.inference.models.tokenizer import NO_LIMIT, Row
from streamer.inference.tasks.family import CHECK_TEXTS
from streamer.inference.worker.trouble import is_out_of_memory

log = logging.getLogger(__name__)

# Of rows drawn from the vocabulary for the checks at load.
SAMPLED_TOKENS = (3, 9, 17, 40, 96)
# Of those and of known texts, which get a twin of their length: each row is run several times at every start.
_TWIN_EVERY = 8
# What one pass of a check may cost: five seconds of a core, and of a GPU less.
CPU_CHECK_FLOP = 400_000_000_000
CUDA_CHECK_FLOP = 100_000_000_000_000
# What the scores of one layer's attention may take, where they are held at all.
CHECK_BYTES = 1 << 28
# The longest row of a check where neither tokenizer nor network sets a limit.
_ENDLESS_TOKENS = 2048
_SCORE_BYTES = 4
_SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads")


class CheckRows(Passes):
    """A family that makes its own rows for the checks at load."""

    def _affordable_tokens(self) -> int:
        """The longest row that a check may run, by the arithmetic and the memory that it takes."""
        text = self.network.config.get_text_config()
        width, layers, heads = (getattr(text, name, 0) or 0 for name in _SIZES)
        vectors = token_vectors(self.network)
        weights = sum(one.numel() for one in self.network.parameters()) - (0 if vectors is None else vectors.numel())
        flop = CUDA_CHECK_FLOP if self.device.type == "cuda" else CPU_CHECK_FLOP
        # 2 for each weight and token, 4 for each two tokens, layer and number of a token's vector.
        linear, square = 2 * max(1, weights), 4 * max(1, width * layers)
        most = (math.sqrt(linear**2 + 4 * square * flop) - linear) / (2 * square)
        fits = math.sqrt(CHECK_BYTES / (_SCORE_BYTES * max(1, heads)))
        limit = self.tokenizer.max_tokens
        return max(1, min(limit if limit < NO_LIMIT else _ENDLESS_TOKENS, int(most), int(fits)))

    def _short_rows(self) -> list[Row]:
        """Texts, pairs where the task takes them, tokens of the whole vocabulary from a fixed seed, and rows of equal
        length."""
        sampled = [self.tokenizer.sample(length, seed) for seed, length in enumerate(SAMPLED_TOKENS)]
        rows = self._rows([*CHECK_TEXTS, *sampled])
        return rows + [twin(row, seed) for seed, row in enumerate(rows) if seed % _TWIN_EVERY == 0]

    def _longest_row(self, tokens: int) -> list[Row]:
        """One of about so many tokens, none where memory does not do. Where the network can't read it, whatever its
        files say, the longest that it can read is found by trying, and texts are cut there."""
        sample = self.tokenizer.sample(2 * tokens, seed=len(SAMPLED_TOKENS))
        row = _start(max(self._rows([sample, *CHECK_TEXTS]), key=lambda row: len(row.ids)), tokens)
        try:
            length = self._longest_that_runs(row)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            self.free_memory()
            log.warning(
                "%s has too little memory even for a single text of %d tokens: give it more",
                self._spec.model,
                len(row.ids),
            )
            return []
        if length < len(row.ids):
            log.info("%s reads %d tokens, not %d", self._spec.model, length, len(row.ids))
            self.tokenizer.fit(readable=length)
        return [_start(row, length)]

    def _longest_that_runs(self, row: Row) -> int:
        """How much of a row the network reads, at least one token. Raises what memory raises."""

        def runs(tokens: int) -> bool:
            try:
                self._pass([_start(row, tokens)])
            except Exception as error:
                # A GPU's context does not outlive a wrong index.
                if self.device.type == "cuda" or is_out_of_memory(error):
                    raise
                return False
            return True

        least, most = 1, len(row.ids)
        if runs(most):
            return most
        while least + 1 < most:
            middle = (least + most) // 2
            least, most = (middle, most) if runs(middle) else (least, middle)
        return least

    def _rows(self, texts: Sequence[str]) -> list[Row]:
        return [row for one in self.encode_checks(texts) for row in one.content.rows]

    def _parameters(self) -> int:
        return sum(weights.numel() for weights in self.network.parameters())


def _start(row: Row, tokens: int) -> Row:
    type_ids = None if row.type_ids is None else row.type_ids[:tokens]
    return msgspec.structs.replace(row, ids=row.ids[:tokens], type_ids=type_ids)
