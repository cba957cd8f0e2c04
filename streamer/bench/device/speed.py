"""What a device computes without Kafka: workers fed from memory; on a CPU or a GPU, with torch 2.11 and newer."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from streamer.bench.bulk import MINILM, MINILM_TASK, BulkRun, BulkWorker
from streamer.bench.device.report import Report
from streamer.bench.device.steps import Settings
from streamer.bench.harness.figures import Figure, Section
from streamer.bench.harness.workload import Workload
from streamer.inference.models.reference import Located, resolve
from streamer.inference.spec import WorkerSpec, worker_environment

# (width, layers, inner): random weights compute as fast as trained ones.
SHAPES: Mapping[str, tuple[int, int, int]] = {
    "minilm": (384, 6, 1536),
    "base": (768, 12, 3072),
    "large": (1024, 24, 4096),
    "tiny": (128, 2, 256),
}
TOKENIZER = Path(__file__).parents[2] / "demo" / "models" / "sentiment-micro"
MAX_TOKENS = 512
PEAK_ROWS = {"cpu": 1024, "cuda": 16384}
PEAK_S = 1.0


def random_encoder(directory: Path, shape: str) -> Path:
    """A BERT of that shape with random weights and the demo's tokenizer."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertModel

    width, layers, inner = SHAPES[shape]
    tokenizer: Any = AutoTokenizer.from_pretrained(TOKENIZER, local_files_only=True)
    tokenizer.model_max_length = MAX_TOKENS
    tokenizer.save_pretrained(directory)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        intermediate_size=inner,
        max_position_embeddings=MAX_TOKENS,
    )
    BertModel(config).save_pretrained(directory)  # type: ignore[no-untyped-call]
    return directory


def device_speed(
    spec: WorkerSpec, texts: int, mean_tokens: int, rounds: int, progress: Callable[[str], None]
) -> Section:
    """`spec.model` over seeded texts of log-normal lengths, all given to one worker at once."""
    from streamer.bench.baselines.encoders import matrix_flops

    given = list(Workload(texts, mean_tokens=mean_tokens).texts())
    progress("loading")
    with BulkWorker(spec=spec) as worker:
        card = worker.card
        worker.run(given[: max(64, texts // 20)])  # the first passes allocate and choose their kernels
        runs: list[BulkRun] = []
        for number in range(rounds):
            progress(f"{card.device}, {card.dtype}, round {number + 1} of {rounds}")
            runs.append(worker.run(given))
    progress("matrix peak")
    width, layers, inner = shape_of(spec.model)
    shapes = [(width, width)] * 4 + [(width, inner), (inner, width)]
    kind = card.device.partition(":")[0]
    peak = matrix_flops(shapes, PEAK_ROWS[kind], card.dtype, PEAK_S, card.device)
    linear = 2 * layers * sum(inputs * outputs for inputs, outputs in shapes)
    rates = [run.tokens_per_s for run in runs]
    # Attention of a token is with its own text's: its share is left out, so that the figure is a lower bound.
    used = [rate * linear / peak for rate in rates]
    figures = [
        _figure("tokens", rates, "tok/s"),
        _figure("texts", [run.texts_per_s for run in runs], "/s"),
        _figure("model FLOP utilisation", used, ""),
        _figure("busy share of the forward thread", [run.busy for run in runs], ""),
        _figure("computed tokens for each real one", [run.computed for run in runs], ""),
        Figure("matrix peak", peak / 1e12, "TFLOP/s"),
    ]
    notes = [
        f"{card.name} on {_named(card.device)}, {card.dtype}, {card.backend}; {spec.threads} CPU thread(s)",
        f"{texts:,} texts of {mean_tokens} tokens in the mean; medians of {rounds} rounds",
        f"ready in {worker.ready_s:.1f} s",
        "computed tokens for each real one: exactly 1 where the encoder runs packed, above it by what is padded",
        "model FLOP utilisation: the linear layers' arithmetic over the matrix peak of their shapes in this dtype",
    ]
    return Section("A worker fed from memory", figures, notes)


def spec_of(model: str, *, device: str, dtype: str, backend: str, threads: int, batch_tokens: int) -> WorkerSpec:
    """For one embedding worker."""
    return WorkerSpec(
        pipeline="bench",
        task=MINILM_TASK,
        model=model or MINILM,
        device=device,
        dtype=dtype,  # type: ignore[arg-type]
        backend=backend,  # type: ignore[arg-type]
        threads=threads,
        batch_tokens=batch_tokens,
    )


def quiet(spec: WorkerSpec) -> None:
    """This process measures the peak with the worker's threads; to be called before torch is imported."""
    import os

    os.environ.update(worker_environment(spec))


def shape_of(model: str) -> tuple[int, int, int]:
    """Width, layers and inner width, as its files have them."""
    from transformers import AutoConfig

    located = resolve(model)
    assert isinstance(located, Located)
    config: Any = AutoConfig.from_pretrained(located.path, local_files_only=True)
    return int(config.hidden_size), int(config.num_hidden_layers), int(config.intermediate_size)


def _named(device: str) -> str:
    if device == "cpu":
        return "the CPU"
    import torch

    return f"{torch.cuda.get_device_name(torch.device(device))} (torch {torch.__version__})"


def _figure(name: str, values: Sequence[float], unit: str) -> Figure:
    return Figure(name, statistics.median(values), unit, None, values, {})


def one_worker(settings: Settings, report: Report, shape: str) -> None:
    """A step: the figures of `device_speed` for random weights of this shape."""
    path = random_encoder(settings.folder / f"{shape}-worker", "tiny" if settings.small else shape)
    spec = spec_of(str(path), device=settings.device, dtype="auto", backend="torch", threads=1, batch_tokens=0)
    texts, rounds = (128, 1) if settings.small else (20_000, 3)
    found = device_speed(spec, texts, 104, rounds, print)  # into the log
    for figure in found.figures:
        report.figure(figure.name, figure.value, figure.unit)
    for note in found.notes:
        report.say("note", note)
