"""What all families on torch share: loading as the model's files say."""

from __future__ import annotations

import inspect
import logging
from abc import abstractmethod
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from streamer.core.pipeline.protocol import ModelCard
from streamer.errors import ModelError
from streamer.inference.backends.agreement import FLOAT32_TOLERANCE, Agreement
from streamer.inference.backends.positions import known_tokens, readable_tokens
from streamer.inference.backends.ways import Ways
from streamer.inference.model import CPU_BATCHING, CUDA_BATCHING, Sharing
from streamer.inference.models.adapter import revision_of
from streamer.inference.models.device import choose_device, choose_dtype, lower, use_threads
from streamer.inference.models.first_layers import first_layers, too_large
from streamer.inference.models.identity import of_task
from streamer.inference.models.loading import load_config, load_network
from streamer.inference.models.quantised import libraries_of
from streamer.inference.models.reference import Located
from streamer.inference.models.safety import used_files, view
from streamer.inference.models.tokenizer import TextTokenizer
from streamer.inference.models.transformer_file import Layout
from streamer.inference.spec import WorkerSpec

log = logging.getLogger(__name__)


class TorchModel(Ways):
    """A family's transformers model. The family says what network to load and what its numbers are: probabilities, a
    vector …"""

    def __init__(self, spec: WorkerSpec, located: Located, worker: int) -> None:
        self._spec = spec
        use_threads(spec.threads)
        names = used_files(located.path)
        revision = revision_of(located, names)
        self._adapter = located.adapter
        with view(located.path, names) as root:
            layout = self.layout(root)
            path = root / layout.folder
            self._limited = layout.max_tokens is not None
            self.config, self.tokenizer = self.read_texts(path, layout)
            self.read_options(root, spec.options)
            self.device = choose_device(spec.device, worker)
            self.batching = CUDA_BATCHING if self.device.type == "cuda" else CPU_BATCHING
            self._dtype = choose_dtype(spec.dtype, self.device)
            if self._dtype is not torch.float32 and self.config is not None:
                self._no_float32 = too_large(path, self.device)
            self.network = self._load(path)
        self._files = located.path, names, layout.folder
        self._fit_tokenizer()
        self.probe = self.encode_checks()[0]
        checked = self._check_layers() if self._no_float32 else ""
        # A directory may hold several networks; what OpenVINO makes of each is kept by it.
        kept_as = sha256(f"{revision} {layout.folder}".encode()).hexdigest() if layout.folder else revision
        dtype, backend = self._prepare(kept_as)
        self.card = ModelCard(
            name=located.name,
            revision=revision,
            task=spec.task,
            dtype=str(dtype).removeprefix("torch."),
            backend=backend,
            device=str(self.device),
            tolerance=self.tolerance if dtype is not torch.float32 else FLOAT32_TOLERANCE,
            max_tokens=self.tokenizer.max_tokens,
            implementation=of_task(spec.task, backend, *libraries_of(self.config)),
            checked=checked,
        )

    # --- the family's part ---

    def layout(self, path: Path) -> Layout:
        """Where in the model's directory its network and tokenizer lie, and what else is asked of a text."""
        return Layout()

    def read_texts(self, path: Path, layout: Layout) -> tuple[Any, TextTokenizer]:
        """The network's configuration, and the tokenizer."""
        as_text = self._spec.options.get("special_tokens_in_text") == "text"
        keeps_mask = as_text and self.reads_mask
        return load_config(path), TextTokenizer(path, layout, special_as_text=as_text, keeps_mask=keeps_mask)

    @abstractmethod
    def network_class(self) -> Any:
        """The transformers Auto class to load."""

    # --- loading ---

    def _load(self, path: Path) -> Any:
        """The network on its device, in fp32 if there is room for it. Refuses weights that lack what the task needs."""
        return load_network(
            self.network_class(),
            path,
            self.config,
            dtype=self._dtype if self._no_float32 else torch.float32,
            task=self._spec.task,
            model=self._spec.model,
            adapter=self._adapter,
            device=self.device,
        )

    def _check_layers(self) -> str:
        """Hold the first layers to float32, where the network is too large for it; returns what they are. Raises
        `ModelError` where they are too far from it."""
        path, names, folder = self._files
        asked = f"{self._spec.model} can't be served in {str(self._dtype).removeprefix('torch.')}: {self._no_float32}"
        known, network = Agreement(self._short_rows(), []), self.network
        try:
            with view(path, names) as root:
                layers, what = first_layers(
                    self.network_class(), root / folder, self.config, torch.float32, self._adapter
                )
        except ModelError as error:
            raise ModelError(f"{asked}, and {error}; give it more memory") from error
        self.network = layers.to(self.device)
        known.refer(self._pass)
        lower(self.network, self._dtype)
        off = known.distance(self._pass, Sharing.ALONE, self.distance)
        self.network = network
        if not off <= self.tolerance:  # NaN is more
            raise ModelError(
                f"{asked}, and {what} are {off:.3g} away from it, more than {self.tolerance:g}; name another dtype, or "
                "give it more memory"
            )
        log.warning("%s: %s: only %s were compared with it", self._spec.model, self._no_float32, what)
        return what

    def _load_network(self) -> Any:
        path, names, folder = self._files
        with view(path, names) as root:
            return self._load(root / folder)

    def _fit_tokenizer(self) -> None:
        """What the network can read, and what it must be told."""
        takes = inspect.signature(self.network.forward).parameters
        self._takes_mask = "attention_mask" in takes
        self.tokenizer.fit(
            readable=readable_tokens(self.network, only_tables=self._limited),
            known=known_tokens(self.network),
            takes_type_ids="token_type_ids" in takes,
        )
