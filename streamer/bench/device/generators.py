"""Language models of random weights, which are drawn on the device: no file holds them. Continuous batching over
prompts and lengths that differ, as `bench generation` has them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, LlamaConfig

from streamer.bench.baselines.encoders import matrix_flops
from streamer.bench.device.answers import answers, how
from streamer.bench.device.busy import busy
from streamer.bench.device.models import save_tokenizer
from streamer.bench.device.report import Report, SkippedStepError
from streamer.bench.device.speed import PEAK_ROWS
from streamer.bench.device.steps import Settings
from streamer.bench.generation import Requests
from streamer.inference.models.reference import Located
from streamer.inference.spec import WorkerSpec
from streamer.inference.tasks.text_generation import TextGeneration

# Width, layers, heads, heads of keys, inner width.
SIZES = {"0.5 B": (896, 32, 14, 2, 4864), "7 B": (4096, 32, 32, 8, 14336), "small": (128, 2, 4, 2, 256)}
_ROOM = 1.6
"""Times its weights that a model needs, with its cache."""
_REQUESTS, _FEW = 384, 6


class Drawn(TextGeneration):
    """A model whose files hold no weights of its network."""

    def _load(self, path: Path, dtype: torch.dtype, *_: Any, **__: Any) -> Any:
        torch.manual_seed(0)
        with torch.device(self.device):
            network: Any = AutoModelForCausalLM.from_config(self.config, dtype=dtype)  # type: ignore[no-untyped-call]
        return network.eval().to(self.device)


def generate(settings: Settings, report: Report, size: str) -> None:
    """New tokens a second, and the share of the device's arithmetic that they take."""
    path = settings.folder / f"generator-{size.replace(' ', '')}"
    weights = write(path, SIZES["small" if settings.small else size], settings)
    if settings.device != "cpu":
        free = torch.cuda.mem_get_info(torch.device(settings.device))[0]
        if weights * 2 * _ROOM > free:
            raise SkippedStepError(
                f"{weights / 1e9:.1f} billion weights need more than the {free / 1e9:.0f} GB that are free"
            )
    spec = WorkerSpec("device", "text-generation", str(path), backend="torch", device=settings.device)
    began = time.perf_counter()
    model = Drawn(spec, Located(path, path.name), 0)
    try:
        report.figure("ready after", time.perf_counter() - began, "s")
        report.figure("weights", weights / 1e9, "billion")
        report.say("runs", how(model))
        if model._streams is None:
            report.wrong("it generates without continuous batching: the log says why")
        requests = Requests.of(_FEW if settings.small else _REQUESTS)
        most = [min(count, 8) if settings.small else count for count in requests.new_tokens]
        events = [
            (prompt, None, {"max_new_tokens": count}) for prompt, count in zip(requests.prompts, most, strict=True)
        ]
        answers(model, events[:4])
        with busy(report, "all requests", settings.device):
            began = time.perf_counter()
            found = answers(model, events)
            seconds = time.perf_counter() - began
    finally:
        model.close()
    failures = [one for one in found if not isinstance(one, dict)]
    if failures:
        report.wrong(f"{len(failures)} requests failed, the first with {failures[0]}")
        return
    written = sum(one["completion_tokens"] for one in found)
    read = sum(one["prompt_tokens"] for one in found)
    report.figure("requests", len(events))
    report.figure("new tokens", written / seconds, "tok/s")
    report.figure("with the prompts'", (written + read) / seconds, "tok/s")
    width, *_, inner = SIZES["small" if settings.small else size]
    kind = settings.device.partition(":")[0]
    rows, spell = (64, 0.02) if settings.small else (PEAK_ROWS[kind], 1.0)
    peak = matrix_flops([(width, inner), (inner, width)], rows, model.card.dtype, spell, settings.device)
    report.figure("matrix peak", peak / 1e12, "TFLOP/s")
    report.figure("model FLOP utilisation", 2 * weights * (written + read) / seconds / peak)


def write(path: Path, size: tuple[int, int, int, int, int], settings: Settings) -> int:
    """The files of such a model, but for its weights; returns how many it has."""
    width, layers, heads, key_heads, inner = size
    path.mkdir(parents=True)
    tokens = save_tokenizer(path, max_tokens=2048)
    config = LlamaConfig(
        vocab_size=tokens,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        intermediate_size=inner,
        max_position_embeddings=2048,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=None,
        tie_word_embeddings=False,
        dtype="float32" if settings.device == "cpu" else "bfloat16",
    )
    config.architectures = ["LlamaForCausalLM"]
    config.save_pretrained(path)
    save_file({"none": torch.zeros(1)}, path / "model.safetensors")
    keys = width // heads * key_heads
    return layers * (2 * width * width + 2 * width * keys + 3 * width * inner) + 2 * tokens * width
