"""What all families on torch share: safe loading, device and dtype, and forward passes."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from streamer.core.pipeline.protocol import ModelCard
from streamer.errors import ModelError
from streamer.inference.device import choose_device, choose_dtype, free_memory, use_threads
from streamer.inference.family import Family, Numbers
from streamer.inference.loading import load_config, load_network
from streamer.inference.model import CPU_BATCHING, CUDA_BATCHING, PACKED_WASTE, cut
from streamer.inference.openvino_network import OpenVinoNetwork, installed, open_network
from streamer.inference.packed_attention import UnpackableError, packs
from streamer.inference.packed_encoder import PackedEncoder, pack_network
from streamer.inference.packed_linear import pack
from streamer.inference.reference import Located
from streamer.inference.safety import digest, used_files, view
from streamer.inference.spec import WorkerSpec
from streamer.inference.tokenizer import Row, TextTokenizer
from streamer.inference.transformer_file import Layout

log = logging.getLogger(__name__)


# Between two ways to compute in fp32; of a score, or 1 minus a cosine.
FLOAT32_TOLERANCE = 1e-4
# Below it `auto` does not convert: what a pass of so small a network costs is not its arithmetic.
OPENVINO_PARAMETERS = 5_000_000


class TorchModel(Family):
    """A family's transformers model. The family says what network to load and what its numbers are: probabilities, a
    vector …"""

    converts: ClassVar[bool] = True
    """Whether the family only calls its network, so that another backend can run it."""

    def __init__(self, spec: WorkerSpec, located: Located, worker: int) -> None:
        self._spec = spec
        use_threads(spec.threads)
        names = used_files(located.path)
        revision = digest(located.path, names)
        with view(located.path, names) as root:
            layout = self.layout(root)
            path = root / layout.folder
            self.config, self.tokenizer = self.read_texts(path, layout)
            self.read_options(root, spec.options)
            self.device = choose_device(spec.device, worker)
            self.batching = CUDA_BATCHING if self.device.type == "cuda" else CPU_BATCHING
            self._packed: PackedEncoder | None = None
            self.probe, *checks = self.encode_checks()
            self.network = self._load(path)
            # A directory may hold several networks; what OpenVINO makes of each is kept by it.
            kept_as = sha256(f"{revision} {layout.folder}".encode()).hexdigest() if layout.folder else revision
            dtype, backend = self._hasten(path, kept_as, [row for check in checks for row in check.content.rows])
        self.card = ModelCard(
            name=located.name,
            revision=revision,
            task=spec.task,
            dtype=str(dtype).removeprefix("torch."),
            backend=backend,
            device=str(self.device),
            tolerance=self.tolerance if dtype is not torch.float32 else FLOAT32_TOLERANCE,
            max_tokens=self.tokenizer.max_tokens,
        )

    # --- the family's part ---

    def layout(self, path: Path) -> Layout:
        """Where in the model's directory its network and tokenizer lie, and what else is asked of a text."""
        return Layout()

    def read_texts(self, path: Path, layout: Layout) -> tuple[Any, TextTokenizer]:
        """The network's configuration, and the tokenizer."""
        config = load_config(path)
        return config, TextTokenizer(path, config, self.windowed_side, layout)

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
        free_memory(self.device)

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
        if self._packed is not None:
            self._packed.lay(lengths, pads_left=pads_left)
        with torch.inference_mode():
            numbers: Numbers = self.rows(inputs, mask).cpu().numpy()
        if not (self.token_rows and padded):
            return list(numbers)
        return [own[-length:] if pads_left else own[:length] for own, length in zip(numbers, lengths, strict=True)]

    # --- loading ---

    def _load(self, path: Path) -> Any:
        """The network in fp32, on its device. Refuses weights that lack what the task needs."""
        network = load_network(
            self.network_class(),
            path,
            self.config,
            dtype=torch.float32,
            task=self._spec.task,
            model=self._spec.model,
            forgives=lambda key: "pooler" in key,
        )
        return network.to(self.device)

    def _hasten(self, path: Path, revision: str, rows: list[Row]) -> tuple[torch.dtype, str]:
        """Make the network as fast as its numbers for known rows allow; returns the dtype and the backend in use."""
        dtype = choose_dtype(self._spec.dtype, self.device)
        reference = [own for row in rows for own in self._pass([row])]
        tolerance = FLOAT32_TOLERANCE if dtype is torch.float32 else self.tolerance
        if self._take_openvino(revision, dtype, lambda: self._distance(rows, reference) <= tolerance):
            return dtype, "openvino"
        if dtype is not torch.float32:
            self.network.to(dtype)  # in place: no moment holds both
            distance = self._distance(rows, reference)
            if not distance <= tolerance:  # as NaN isn't
                log.warning(
                    "%s in %s is %.3g from its float32 outputs, more than %.3g: it runs in float32",
                    self._spec.model,
                    dtype,
                    distance,
                    tolerance,
                )
                self.network = None
                self.free_memory()
                self.network = self._load(path)
                dtype, tolerance = torch.float32, FLOAT32_TOLERANCE
        if self._spec.compile:
            self._compile(lambda: self._distance(rows, reference) <= tolerance)
        elif packs(self.device, dtype):
            self._pack(rows, reference, tolerance)
        elif self.device.type == "cpu" and dtype is not torch.float16:
            packing = pack(self.network)
            try:
                fits = self._distance(rows, reference) <= tolerance
            except Exception as error:  # some networks reach into a layer's weights
                log.info("%s runs with plain linear layers (%s)", self._spec.model, type(error).__name__)
                fits = False
            if not fits:
                packing.undo()
        return dtype, "torch"

    def _compile(self, fits: Callable[[], bool]) -> None:
        """By torch.compile, if its compiler works here and its numbers agree: else it is said, and torch goes on."""
        plain = self.network
        self.network = torch.compile(plain, dynamic=True)
        try:
            reason = "" if fits() else "its numbers are too far from torch's"
        except Exception as error:  # the compiler's own, of many kinds
            reason = type(error).__name__
        if reason:
            log.warning("%s runs without torch.compile (%s)", self._spec.model, reason)
            self.network = plain

    def _pack(self, rows: list[Row], reference: list[Numbers], tolerance: float) -> None:
        """Without padding in the encoder, if it can do so and its numbers agree: else it is said, and padding stays."""
        # One that reaches beyond what a token of local attention sees; held to its padded pass in this dtype.
        long = joined(rows, self.tokenizer.max_tokens)
        rows, reference = [*rows, long], [*reference, *self._pass([long])]
        try:
            packing = pack_network(self.network)
        except UnpackableError as error:
            log.info("%s runs padded: %s", self._spec.model, error)
            return
        self.network, self._packed = packing.network, packing.encoder
        try:
            distance = self._distance(rows, reference)
        except Exception as error:  # of transformers and torch, for what they do not support
            reason = str(error) if isinstance(error, UnpackableError) else type(error).__name__
            log.info("%s runs padded: %s", self._spec.model, reason)
        else:
            if distance <= tolerance:
                self.batching = replace(self.batching, packed=True, waste=PACKED_WASTE)
                log.info("%s runs packed, without padding", self._spec.model)
                return
            log.warning(
                "%s runs padded: packed it is %.3g from its padded outputs, more than %.3g",
                self._spec.model,
                distance,
                tolerance,
            )
        self.network, self._packed = packing.undo(), None

    def _take_openvino(self, revision: str, dtype: torch.dtype, fits: Callable[[], bool]) -> bool:
        """Let OpenVINO run the network where the spec allows it and its numbers agree. Raises `ModelError` when it was
        asked for and can't."""
        asked = self._spec.backend == "openvino"
        reason = self._lacks_for_openvino(asked)
        if not reason:
            plain = self.network

            def agrees(network: OpenVinoNetwork) -> bool:
                self.network = network
                try:
                    return fits()
                finally:
                    self.network = plain

            opened = open_network(
                plain,
                digest=revision,
                takes_type_ids=self.tokenizer.takes_type_ids,
                dtype=dtype,
                threads=self._spec.threads,
                fits=agrees,
            )
            if isinstance(opened, OpenVinoNetwork):
                self.network = opened
                return True
            reason = opened
            log.info("%s runs in torch, not in OpenVINO: %s", self._spec.model, reason)
        if asked:
            raise ModelError(f'{self._spec.model} can\'t have backend = "openvino": {reason}')
        return False

    def _lacks_for_openvino(self, asked: bool) -> str:
        """Why OpenVINO is not even tried; "" when it is."""
        if self._spec.backend == "torch":
            return "the backend is torch"
        if not installed():
            return "it is not installed here (pip install 'streamer[cpu]')"
        if self.device.type != "cpu":
            return f"it runs on the CPU, and the device is {self.device}"
        if self._spec.compile:
            return "compile = true is torch's"
        if not self.converts:
            return f"task {self._spec.task} reaches into its network"
        if not asked and sum(weights.numel() for weights in self.network.parameters()) < OPENVINO_PARAMETERS:
            return "it is too small to be worth converting"
        return ""

    def _distance(self, rows: list[Row], reference: list[Numbers]) -> float:
        """The largest of all rows, each alone and padded in one pass; NaN where one is NaN."""
        alone = [own for row in rows for own in self._pass([row])]
        pairs = zip(alone + self._pass(rows), reference + reference, strict=True)
        return float(np.max([self.distance(own, expected) for own, expected in pairs]))


def joined(rows: Sequence[Row], most: int) -> Row:
    """One row of all tokens, at most so many."""
    ids = list(chain.from_iterable(row.ids for row in rows))[:most]
    if all(row.type_ids is None for row in rows):
        return Row(ids, None)
    type_ids = chain.from_iterable(row.type_ids or [0] * len(row.ids) for row in rows)
    return Row(ids, list(type_ids)[:most])
