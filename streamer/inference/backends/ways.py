"""The fastest way to run a family's network that gives the plain network's numbers: which rows share a pass, in which
dtype, by which backend. Each way is tried, held to known rows, and left with a line in the log where it strays."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from streamer.errors import ModelError
from streamer.inference.backends import packed_openvino
from streamer.inference.backends.agreement import FLOAT32_TOLERANCE, Agreement, exact
from streamer.inference.backends.check_rows import CheckRows
from streamer.inference.backends.cuda_graphs import CudaRecorder
from streamer.inference.backends.openvino_network import OpenVinoNetwork, open_network
from streamer.inference.backends.packed_attention import UnpackableError, packs
from streamer.inference.backends.packed_encoder import pack_network
from streamer.inference.backends.packed_linear import Packing, pack
from streamer.inference.backends.packed_openvino import PackedOpenVinoNetwork
from streamer.inference.backends.positions import known_tokens
from streamer.inference.backends.race import score, windows
from streamer.inference.backends.verdicts import Verdict
from streamer.inference.model import Sharing, packed_batching
from streamer.inference.models.checks import without_openvino
from streamer.inference.models.device import choose_dtype, lower, surroundings, versions
from streamer.inference.models.tokenizer import NO_LIMIT

log = logging.getLogger(__name__)

_Opened = OpenVinoNetwork | PackedOpenVinoNetwork | str

# To be raised where a way is changed: what was found of it at an earlier start is then found anew.
_WAYS = 2
# How the way of a network that runs packed ends where it is remembered.
_PACKED = " packed"


class Ways(CheckRows):
    """A family whose network is there; `_prepare` finds its way."""

    _no_float32: str = ""
    """Why the network was never loaded in float32, so that its own numbers stand in for those."""
    _held: bool
    """Whether the longest rows were run."""
    _unshared: str
    """Why rows do not share padded passes."""
    _packs: bool | None = None
    """Whether packing was found to be faster on this machine; None where that was not timed yet."""

    @abstractmethod
    def _load_network(self) -> Any:
        """The network as its files have it, in float32, on its device."""

    def _prepare(self, revision: str) -> tuple[torch.dtype, str]:
        """Find out how rows may share passes, and make the network as fast as its numbers allow; returns the dtype and
        the backend in use. The longest rows are run at the first start on a machine alone: they take seconds."""
        longest = self._affordable_tokens()
        spec = self._spec
        verdict = Verdict(
            (
                _WAYS,
                revision,
                type(self.network).__name__,
                longest,
                *versions(),
                *surroundings(self.device),
                spec.task,
                spec.options,
                spec.dtype,
                spec.backend,
                spec.compile,
                bool(self._no_float32),
            )
        )
        unpacked = self.batching
        while True:
            held = verdict.way is None
            if not held:
                self.tokenizer.fit(readable=verdict.tokens)
            self.batching, self._packed = unpacked, None
            self._packs = None if verdict.way is None else verdict.way.endswith(_PACKED)
            dtype, backend = self._try_ways(revision, longest, held=held)
            padding = self.batching, self.tokenizer.pads_left, self.tokenizer.pad_id
            network = type(self.network).__name__
            way = f"{dtype} {backend} {padding} {network}{_PACKED if self.batching.packed else ''}"
            if held or way == verdict.way:
                break
            verdict.way = None  # it went another way this time, which was never held to the longest rows
            self._reload()
        if held and self._held:
            verdict.keep(way, self.tokenizer.max_tokens)
        if self.batching.sharing is not Sharing.PADDED:
            log.warning("%s: %s share a pass, as %s", spec.model, self.batching.sharing.value, self._unshared)
        return dtype, backend

    def _try_ways(self, revision: str, longest: int, *, held: bool) -> tuple[torch.dtype, str]:
        """With `held` each way is held to a row of `longest` tokens too; without it, that was done before."""
        self._checked_tokens, self._plain = NO_LIMIT, self.network
        long = self._longest_row(longest) if held else []
        self._held = bool(long) or not held
        known = Agreement(self._short_rows(), long)
        known.refer(self._pass)
        self._share_passes(known)
        found = self._speed_up(revision, known)
        if self._held and longest >= self.tokenizer.max_tokens:
            self._plain = self.network  # the other is let go
        else:
            self._checked_tokens = max([longest if self._held else 0, *(len(row.ids) for row in known.short)])
        return found

    def _share_passes(self, known: Agreement) -> None:
        """Let rows share passes as far as that changes no number of theirs: padded, by equal lengths, or not at all."""
        self._unshared = ""
        distance, allowed = exact(self.distance), FLOAT32_TOLERANCE
        if self._no_float32:
            distance, allowed = self.distance, self.tolerance
        limit = known_tokens(self.network) or NO_LIMIT
        named = (self.tokenizer.pad_id, getattr(self.config, "pad_token_id", None), 0)
        pads = dict.fromkeys(pad for pad in named if isinstance(pad, int) and 0 <= pad < limit)
        ways = [(Sharing.PADDED, left, pad) for left in (False, True) for pad in pads]
        for sharing, left, pad in [*ways, (Sharing.EQUAL, False, 0), (Sharing.ALONE, False, 0)]:
            self.batching = replace(self.batching, sharing=sharing)
            self.tokenizer.pads_left, self.tokenizer.pad_id = left, pad
            try:
                off = known.distance(self._pass, sharing, distance, alone=False)
                if off <= allowed:
                    return
                reason = f"a padded row is {off:.3g} away from the same row alone"
            except Exception as error:
                reason = f"a batch raises {type(error).__name__}: {error}"  # of known texts
            self._unshared = self._unshared or reason

    def _speed_up(self, revision: str, known: Agreement) -> tuple[torch.dtype, str]:
        dtype = choose_dtype(self._spec.dtype, self.device)

        def fits() -> bool:
            return not self._strays(known, dtype)

        if self._take_openvino(revision, dtype, fits):
            return dtype, "openvino"
        if dtype is not torch.float32 and not self._no_float32 and (reason := self._lower(known, dtype)):
            log.warning("%s runs in float32, not in %s: %s", self._spec.model, dtype, reason)
            self._reload()
            dtype = torch.float32
        if self._spec.compile:
            self._compile(fits)
        else:
            if self.device.type == "cpu" and dtype is not torch.float16:
                self._lay_out(fits)
            if self._may_pack(dtype):
                self._pack(known, dtype)
        return dtype, "torch"

    def _strays(self, known: Agreement, dtype: torch.dtype) -> str:
        """How far the network as it runs now lies from what is known, in words; "" where `dtype` allows as much."""
        exactly = dtype is torch.float32
        distance, allowed = (exact(self.distance), FLOAT32_TOLERANCE) if exactly else (self.distance, self.tolerance)
        off = known.distance(self._pass, self.batching.sharing, distance)
        return "" if off <= allowed else f"it is {off:.3g} away, more than {allowed:g}"  # NaN is more

    def _lower(self, known: Agreement, dtype: torch.dtype) -> str:
        """Compute in `dtype`; returns why that does not do, "" when it does."""
        try:
            lower(self.network, dtype)
            return self._strays(known, dtype)
        except Exception as error:  # of torch, for a processor that lacks something
            return f"{type(error).__name__}: {error}"

    def _reload(self) -> None:
        """The network as its files have it."""
        self.network = self._plain = None
        self.free_memory()
        self.network = self._plain = self._load_network()

    def _lay_out(self, fits: Callable[[], bool]) -> None:
        """Lay the weights of linear layers out for oneDNN, where it can and the numbers stay."""
        packing = Packing([])
        try:
            packing = pack(self.network)
            reason = "" if fits() else "its numbers are too far"
        except Exception as error:  # of a processor that lacks something, and of networks that reach into a layer
            reason = type(error).__name__
        if reason:
            log.info("%s runs with plain linear layers: %s", self._spec.model, reason)
            packing.undo()

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

    def _pack(self, known: Agreement, dtype: torch.dtype) -> None:
        """Without padding in the encoder, if it can do so, its numbers agree and it is faster here: else padding stays,
        and the log says why."""
        padded, batching = Agreement(known.short, known.long), self.batching
        padded.refer(self._pass)  # in this dtype
        timed = windows(known.short) if self.device.type == "cpu" and self._packs is None else []
        before = score(self.compute, timed, self._spec.threads) if timed else 0.0
        try:
            packing = pack_network(self.network)
            self.network, self._packed = packing.network, packing.encoder
        except UnpackableError as error:
            log.info("%s runs padded: %s", self._spec.model, error)
            return
        try:
            reason = self._strays(padded, dtype)
        except Exception as error:  # of transformers and torch, for what they do not support
            reason = str(error) if isinstance(error, UnpackableError) else type(error).__name__
        if reason:
            log.warning("%s runs padded, not packed: %s", self._spec.model, reason)
            self.network, self._packed = packing.undo(), None
            return
        self.batching = packed_batching(batching)
        gain = before / score(self.compute, timed, self._spec.threads) if timed else 1.0
        if gain < 1:
            log.info("%s runs padded: packed it takes %.2f times as long here", self._spec.model, 1 / gain)
            self.network, self._packed, self.batching = packing.undo(), None, batching
            return
        said = f", {gain:.2f} times as fast as padded here" if timed else ""
        log.info("%s runs packed, without padding%s", self._spec.model, said)
        if self.device.type == "cuda":
            strays = partial(self._strays, padded, dtype)
            seconds = partial(score, self.compute, windows(known.short), 0)
            found = self._packed.take_graphs(CudaRecorder(self.device), self.tokenizer.max_tokens, strays, seconds)
            log.info("%s runs %s", self._spec.model, found)

    def _take_openvino(self, revision: str, dtype: torch.dtype, fits: Callable[[], bool]) -> bool:
        """Let OpenVINO run the network where the spec allows it and its numbers agree. Raises `ModelError` when it was
        asked for and can't."""
        asked = self._spec.backend == "openvino"
        reason = self._lacks_for_openvino()
        if not reason:
            plain, may_pack = self.network, self._may_pack(dtype)
            both = self._parameters() <= packed_openvino.PARAMETERS
            padded: _Opened = "" if may_pack and self._packs and not both else self._open(plain, revision, dtype, fits)
            packed: _Opened = self._open(plain, revision, dtype, fits, packed=True) if may_pack else ""
            if isinstance(packed, PackedOpenVinoNetwork):
                packed.even = padded if both and isinstance(padded, OpenVinoNetwork) else None
                packed = packed if self._pays(padded, packed) else ""
            elif packed:
                log.info("%s runs padded in OpenVINO: %s", self._spec.model, packed)
            for opened in (packed, padded):
                if not isinstance(opened, str):
                    self._use(opened)
                    return True
            reason = str(padded or packed)
            log.info("%s runs in torch, not in OpenVINO: %s", self._spec.model, reason)
        if asked:
            raise ModelError(f'{self._spec.model} can\'t have backend = "openvino": {reason}')
        return False

    def _open(
        self, plain: Any, revision: str, dtype: torch.dtype, fits: Callable[[], bool], *, packed: bool = False
    ) -> _Opened:
        batching = self.batching

        def agrees(network: OpenVinoNetwork | PackedOpenVinoNetwork) -> bool:
            self._use(network)
            try:
                return fits()
            finally:
                self.network, self._packed, self.batching = plain, None, batching

        return open_network(
            plain,
            digest=revision,
            takes_type_ids=self.tokenizer.takes_type_ids,
            takes_mask=self._takes_mask,
            dtype=dtype,
            threads=self._spec.threads,
            fits=agrees,
            packed=packed,
        )

    def _use(self, network: OpenVinoNetwork | PackedOpenVinoNetwork) -> None:
        self.network = network
        if isinstance(network, PackedOpenVinoNetwork):
            self._packed, self.batching = network, packed_openvino.batching_of(self.batching)

    def _pays(self, padded: _Opened, packed: PackedOpenVinoNetwork) -> bool:
        """Whether OpenVINO is faster packed, by what was found at an earlier start or by a race."""
        if self._packs or isinstance(padded, str):
            return True
        plain, batching, rows = self.network, self.batching, windows(self._short_rows())
        seconds = []
        for network in (padded, packed):
            self._use(network)
            seconds.append(score(self.compute, rows, self._spec.threads))
            self.network, self._packed, self.batching = plain, None, batching
        gain = seconds[0] / seconds[1]
        log.info("%s in OpenVINO: packed is %.2f times as fast as padded here", self._spec.model, gain)
        return gain >= 1

    def _lacks_for_openvino(self) -> str:
        return self._no_float32 or without_openvino(self._spec, self.device.type, self._parameters())

    def _may_pack(self, dtype: torch.dtype) -> bool:
        """A packed network is the plain one too: so all that it may ever read must be checked."""
        if self._packs is False or self.batching.sharing is not Sharing.PADDED:
            return False
        whole = self._affordable_tokens() >= self.tokenizer.max_tokens
        return whole and packs(self.device, dtype, self._parameters())
