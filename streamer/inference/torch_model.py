"""What all families on torch share: safe loading, device and dtype, and padded forward passes."""

from __future__ import annotations

import gc
import logging
from abc import abstractmethod
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig

from streamer.core.pipeline.protocol import ModelCard
from streamer.errors import ModelError
from streamer.inference.family import Family, Numbers
from streamer.inference.model import CPU_BATCHING, CUDA_BATCHING, Encoded, cut
from streamer.inference.packed_linear import pack
from streamer.inference.reference import Located
from streamer.inference.safety import digest, used_files, view
from streamer.inference.spec import WorkerSpec
from streamer.inference.tokenizer import Row, TextTokenizer

log = logging.getLogger(__name__)


class TorchModel(Family):
    """A family's transformers model. The family says what network to load and what its numbers are: probabilities, a
    vector …"""

    def __init__(self, spec: WorkerSpec, located: Located, worker: int) -> None:
        self._spec = spec
        torch.set_num_threads(spec.threads)
        if torch.get_num_interop_threads() != 1:  # can be set once in a process
            torch.set_num_interop_threads(1)
        names = used_files(located.path)
        revision = digest(located.path, names)
        with view(located.path, names) as path:
            self.config = AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
            self.tokenizer = TextTokenizer(path, self.config, self.windowed_side)
            self.read_options(path, spec.options)
            self.device = _choose_device(spec.device, worker)
            self.batching = CUDA_BATCHING if self.device.type == "cuda" else CPU_BATCHING
            self.probe, *checks = self.encode_checks()
            self.network = self._load(path)
            dtype = self._lower(path, checks)
        self.card = ModelCard(
            name=located.name,
            revision=revision,
            task=spec.task,
            dtype=str(dtype).removeprefix("torch."),
            backend="torch",
            device=str(self.device),
            tolerance=self.tolerance if dtype is not torch.float32 else 1e-4,
            max_tokens=self.tokenizer.max_tokens,
        )

    # --- the family's part ---

    @abstractmethod
    def network_class(self) -> Any:
        """The transformers Auto class to load."""

    @abstractmethod
    def rows(self, inputs: dict[str, torch.Tensor], mask: torch.Tensor | None) -> torch.Tensor:
        """Run the network on padded `inputs` (n, length); (n, d) in fp32, or (n, length, d) with `token_rows`. `mask`
        is None where no row is padded."""

    # --- running ---

    def compute(self, rows: Sequence[Row]) -> list[Numbers]:
        """Rows of similar lengths share a padded pass."""
        order = sorted(range(len(rows)), key=lambda index: len(rows[index].ids), reverse=True)
        sizes = [(max(1, len(rows[index].ids)), 1) for index in order]
        numbers: list[Numbers] = []
        while len(numbers) < len(order):
            first = len(numbers)
            taken = order[first : first + cut(sizes[first:], self.batching)]
            numbers += self._pass([rows[index] for index in taken])
        return [numbers[place] for place in np.argsort(order)]

    def free_memory(self) -> None:
        """Collect tensors and give cached blocks back to the device."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _pass(self, rows: Sequence[Row]) -> list[Numbers]:
        lengths = np.fromiter((len(row.ids) for row in rows), np.int64, len(rows))
        longest = max(1, int(lengths.max()))
        columns = np.arange(longest)
        padded = bool((lengths != longest).any())
        pads_left = self.tokenizer.pads_left
        real = columns >= longest - lengths[:, None] if pads_left else columns < lengths[:, None]
        ids = np.full(real.shape, self.tokenizer.pad_id, np.int64)
        ids[real] = np.fromiter(chain.from_iterable(row.ids for row in rows), np.int64, int(lengths.sum()))
        inputs = {"input_ids": torch.from_numpy(ids).to(self.device)}
        if any(row.type_ids is not None for row in rows):
            type_ids = np.zeros(real.shape, np.int64)
            flat = chain.from_iterable(row.type_ids or [0] * len(row.ids) for row in rows)
            type_ids[real] = np.fromiter(flat, np.int64, int(lengths.sum()))
            inputs["token_type_ids"] = torch.from_numpy(type_ids).to(self.device)
        mask = torch.from_numpy(real.astype(np.int64)).to(self.device) if padded else None
        with torch.inference_mode():
            numbers: Numbers = self.rows(inputs, mask).cpu().numpy()
        if not (self.token_rows and padded):
            return list(numbers)
        return [own[-length:] if pads_left else own[:length] for own, length in zip(numbers, lengths, strict=True)]

    # --- loading ---

    def _load(self, path: Path) -> Any:
        """The network in fp32, on its device. Refuses weights that lack what the task needs."""
        network, info = self.network_class().from_pretrained(
            path,
            config=self.config,
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
        missing = sorted(key for key in info["missing_keys"] if "pooler" not in key)
        if missing or info.get("mismatched_keys"):
            lacking = missing[0] if missing else "weights of the shape that config.json says"
            raise ModelError(
                f"the weights of {self._spec.model} lack {lacking}: it was not trained for {self._spec.task}"
            )
        return network.eval().requires_grad_(False).to(self.device)

    def _lower(self, path: Path, checks: list[Encoded]) -> torch.dtype:
        """Go down to the dtype asked for, if outputs stay within `tolerance` of fp32's; returns the dtype in use."""
        dtype = _choose_dtype(self._spec.dtype, self.device)
        if dtype is torch.float32:
            return dtype
        rows = [row for check in checks for row in check.content.rows]
        reference = [own for row in rows for own in self._pass([row])]
        self.network.to(dtype)  # in place: no moment holds both
        alone = [own for row in rows for own in self._pass([row])]
        distance = max(self._distance(alone, reference), self._distance(self._pass(rows), reference))
        if distance <= self.tolerance:  # false for NaN
            if self.device.type == "cpu" and dtype is torch.bfloat16:
                self._pack(rows, reference)
            return dtype
        log.warning(
            "%s in %s is %.3g from its float32 outputs, more than %.3g: it runs in float32",
            self._spec.model,
            dtype,
            distance,
            self.tolerance,
        )
        self.network = None
        self.free_memory()
        self.network = self._load(path)
        return torch.float32

    def _distance(self, numbers: list[Numbers], reference: list[Numbers]) -> float:
        """The largest of all rows; NaN where one is NaN."""
        pairs = zip(numbers, reference, strict=True)
        return float(np.max([self.distance(own, expected) for own, expected in pairs]))

    def _pack(self, rows: list[Row], reference: list[Numbers]) -> None:
        """Faster linear layers, if the network takes them: some reach into a layer's weights, which then fails."""
        packing = pack(self.network)
        try:
            fits = self._distance(self._pass(rows), reference) <= self.tolerance
        except Exception as error:
            log.info("%s runs with plain linear layers (%s)", self._spec.model, type(error).__name__)
            fits = False
        if not fits:
            packing.undo()


def _choose_device(device: str, worker: int) -> torch.device:
    if device == "auto":
        count = torch.cuda.device_count()
        return torch.device("cuda", worker % count) if count else torch.device("cpu")
    chosen = torch.device(device)
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ModelError(f"device {device!r} was asked for, but torch sees no GPU here")
    return chosen


def _choose_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """`auto` is bfloat16 where the hardware multiplies in it, else float32: emulated, it is slower than float32."""
    if dtype != "auto":
        chosen: torch.dtype = getattr(torch, dtype)
        return chosen
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        capabilities = torch.cpu.get_capabilities()
        native = bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return torch.bfloat16 if native else torch.float32
