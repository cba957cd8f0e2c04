"""Text generation by transformers' own `generate`, for what continuous batching can't do.

Rows of one call have prompts of one length, so that nothing is padded. Each row is drawn by a generator of its own: its
seed gives the same text whoever shares the call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import GenerationConfig
from transformers.generation.logits_process import (
    EpsilonLogitsWarper,
    EtaLogitsWarper,
    LogitsProcessor,
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopHLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)
from transformers.generation.stopping_criteria import StoppingCriteria, StoppingCriteriaList

from streamer.inference.generation.files import least_of
from streamer.inference.generation.request import Completion, Ending, Request, Sampling
from streamer.inference.model import Sharing

# What transformers takes where neither the event nor the model's files name a top_k.
_DEFAULT_TOP_K = 50


# What beam search puts behind the beams that ended: no token, so that it is told from any.
BEHIND_BEAMS = -1


class PlainGeneration:
    """Generates in batches of one prompt length, or one by one where the rows of a batch change one another (`sharing`
    ALONE). `on_step` is called after every token. The files' part is the network's `generation_config`."""

    def __init__(self, network: Any, ending: Ending, end_ids: list[int], pad_id: int, num_beams: int) -> None:
        self.sharing = Sharing.EQUAL
        self._network = network
        self._ending = ending
        self._end_ids = end_ids
        self._pad_id = pad_id
        self.num_beams = num_beams

    def run(self, requests: Sequence[Request], on_step: Callable[[], None]) -> list[Completion | None]:
        """One completion a request, in order; None where the network's output was not a number."""
        completions: list[Completion | None] = [None] * len(requests)
        groups: dict[tuple[int, int, int], list[int]] = {}
        # Beams depend on how far they may still go, and so does a token that is forced at the end.
        bounded = self.num_beams > 1 or self._network.generation_config.forced_eos_token_id is not None
        for index, request in enumerate(requests):
            most = request.max_new_tokens if bounded else 0
            alone = index if self.sharing is Sharing.ALONE else 0
            groups.setdefault((len(request.ids), most, alone), []).append(index)
        for indexes in groups.values():
            for index, completion in zip(
                indexes, self._group([requests[index] for index in indexes], on_step), strict=True
            ):
                completions[index] = completion
        return completions

    def _group(self, requests: Sequence[Request], on_step: Callable[[], None]) -> list[Completion | None]:
        device, beams = self._network.device, self.num_beams > 1
        ids = torch.tensor([request.ids for request in requests], dtype=torch.int64).to(device)
        most = max(request.max_new_tokens for request in requests)
        choice = _Choice([request.sampling for request in requests], self._network, self.num_beams)
        # Rows are beams where there are several: an event's stop strings are looked for in the best one at the end.
        stopping = Steps(on_step, self._ending.file_stops) if beams else _Stopping(requests, self._ending, on_step)
        config = GenerationConfig(  # type: ignore[no-untyped-call]
            max_new_tokens=most,
            do_sample=False,
            num_beams=self.num_beams,
            eos_token_id=self._end_ids or None,
            pad_token_id=BEHIND_BEAMS if beams else self._pad_id,
            **least_of(self._network.generation_config, ids.shape[1], most),
        )
        with torch.inference_mode():
            generated = self._network.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                generation_config=config,
                logits_processor=LogitsProcessorList([choice]),
                stopping_criteria=StoppingCriteriaList([stopping]),
            )
        completions: list[Completion | None] = []
        files, prompt = self._ending.file_stops, ids.shape[1]
        for index, (row, request) in enumerate(zip(generated.tolist(), requests, strict=True)):
            end = len(row) if beams else stopping.stopped_at.get(index, len(row))
            written = [token for token in row[prompt:end] if token != BEHIND_BEAMS][: request.max_new_tokens]
            whole = torch.tensor([request.ids + written], device=device)
            stopped = files is not None and bool(files(whole, None)[0])
            completions.append(self._ending.complete(written, request, stopped=stopped))
        return [None if bad else one for bad, one in zip(choice.bad.tolist(), completions, strict=True)]


class Numbers(LogitsProcessor):
    """Marks the rows whose scores are not numbers, as `bad`, and lets the others go on."""

    def __init__(self, rows: int, device: torch.device, beams: int) -> None:
        self._beams = beams
        self.bad = torch.zeros(rows, dtype=torch.bool, device=device)

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """(rows, vocabulary) scores after the model's own processors."""
        self.bad |= scores.isnan().any(dim=-1).view(-1, self._beams).any(dim=-1)
        return scores.nan_to_num(nan=0.0, neginf=-torch.inf)  # type: ignore[return-value]


class _Choice(Numbers):
    """Leaves each row that samples one token to choose."""

    def __init__(self, samplings: Sequence[Sampling | None], network: Any, beams: int) -> None:
        super().__init__(len(samplings), network.device, beams)
        self._draws = [
            (row, _warpers(sampling, network.generation_config, network.device), _generator(sampling, network.device))
            for row, sampling in enumerate(samplings)
            if sampling is not None
        ]

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """As `Numbers`, then the draws."""
        scores = super().__call__(input_ids, scores)
        for row, warpers, generator in self._draws:
            warped = warpers(input_ids[row : row + 1], scores[row : row + 1])  # type: ignore[arg-type]
            token = torch.multinomial(warped.softmax(dim=-1), 1, generator=generator)
            scores[row] = -torch.inf
            scores[row, token[0, 0]] = 0.0
        return scores


class Steps(StoppingCriteria):
    """Tells of each step, and ends rows at the stop strings of the model's files. `stopped_at`: the length of each row
    that was stopped, the first columns included."""

    def __init__(self, on_step: Callable[[], None], file_stops: Any) -> None:
        self._on_step = on_step
        self._file_stops = file_stops
        self.stopped_at: dict[int, int] = {}

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **_: Any) -> torch.BoolTensor:
        """(rows,) True for those that are done."""
        self._on_step()
        done = torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
        if self._file_stops is not None:
            done |= self._file_stops(input_ids, scores)
            for index in done.nonzero()[:, 0].tolist():
                self.stopped_at.setdefault(index, input_ids.shape[1])
        return done  # type: ignore[return-value]


class _Stopping(Steps):
    """Ends rows at their own lengths and stop strings, too."""

    def __init__(self, requests: Sequence[Request], ending: Ending, on_step: Callable[[], None]) -> None:
        super().__init__(on_step, ending.file_stops)
        self._requests = requests
        self._ending = ending
        self._prompt = len(requests[0].ids)
        self._watched = [index for index, request in enumerate(requests) if request.stops]
        self._limits: torch.Tensor | None = None

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **given: Any) -> torch.BoolTensor:
        """(rows,) True for those that are done."""
        done: Any = super().__call__(input_ids, scores, **given)
        if self._limits is None:
            self._limits = torch.tensor([one.max_new_tokens for one in self._requests], device=input_ids.device)
        done |= self._limits <= input_ids.shape[1] - self._prompt
        for index in self._watched:
            if index not in self.stopped_at:
                tokens = input_ids[index, self._prompt :].tolist()
                if self._ending.stopped(tokens, self._requests[index].stops):
                    self.stopped_at[index] = input_ids.shape[1]
            if index in self.stopped_at:
                done[index] = True
        return done  # type: ignore[no-any-return]


def no_step() -> None:
    """Called after each token until a worker asks to be: in checks, nobody waits."""


def _generator(sampling: Sampling, device: torch.device) -> torch.Generator:
    generator = torch.Generator(device)
    if sampling.seed is None:
        generator.seed()
    else:
        generator.manual_seed(sampling.seed)
    return generator


def _warpers(sampling: Sampling, files: GenerationConfig, device: torch.device) -> LogitsProcessorList:
    """The filters in transformers' order (`GenerationMixin._get_logits_processor`)."""
    warpers = LogitsProcessorList()
    if sampling.temperature != 1.0:
        warpers.append(TemperatureLogitsWarper(sampling.temperature))
    if files.top_h is not None:
        warpers.append(TopHLogitsWarper(files.top_h))
    top_k = top_k_of(sampling, files)
    if top_k:
        warpers.append(TopKLogitsWarper(top_k))
    top_p = top_p_of(sampling, files)
    if top_p < 1.0:
        warpers.append(TopPLogitsWarper(top_p))
    if files.min_p is not None:
        warpers.append(MinPLogitsWarper(files.min_p))
    if files.typical_p is not None and files.typical_p < 1.0:
        warpers.append(TypicalLogitsWarper(files.typical_p))
    if files.epsilon_cutoff:
        warpers.append(EpsilonLogitsWarper(files.epsilon_cutoff))
    if files.eta_cutoff:
        warpers.append(EtaLogitsWarper(files.eta_cutoff, device=str(device)))
    return warpers


def top_k_of(sampling: Sampling, files: GenerationConfig) -> int:
    """How many of the likeliest tokens may be drawn; 0 is all."""
    if sampling.top_k is not None:
        return sampling.top_k
    return _DEFAULT_TOP_K if files.top_k is None else int(files.top_k)


def top_p_of(sampling: Sampling, files: GenerationConfig) -> float:
    """The share of probability that may be drawn from."""
    if sampling.top_p is not None:
        return sampling.top_p
    return 1.0 if files.top_p is None else float(files.top_p)
