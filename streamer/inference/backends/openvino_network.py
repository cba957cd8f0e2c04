"""A transformers encoder run by OpenVINO on the CPU, in the place of its torch network.

What it computes is held against the torch network's fp32 numbers by the caller before it serves anything. Converting
takes seconds (MiniLM: 1 to 2 on one core), opening what was converted 0.2 and importing OpenVINO 0.1: so converted
models are kept, by the digest of the model's files. They hold fp32 weights, whatever dtype they are opened in.
"""

from __future__ import annotations

import logging
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import torch

from streamer.inference.backends import packed_openvino
from streamer.inference.backends.packed_attention import UnpackableError
from streamer.inference.backends.packed_openvino import PackedOpenVinoNetwork
from streamer.inference.models import kept

log = logging.getLogger(__name__)

MODEL_FILE = "model.xml"
REFUSED_FILE = "refused.txt"
_HINTS = {torch.float32: "f32", torch.bfloat16: "bf16"}
_DIGEST_CHARACTERS = 32
_FORMAT = "3"  # of how a network is converted and what it is held to
# How a network is told of padding, the faster way first: added to the scores of attention, (n, 1, 1, length), is 5 to
# 11 % faster from 128 tokens on than the (n, length) of zeros and ones, and as fast as none at all; so a second
# variant without a mask would gain nothing. Networks with layers that see only a window take a mask for each kind of
# layer, "windowed": a single one that is added opens the window.
_MASKS: Final = ("windowed", "added", "plain")


_PACKED: Final = "packed"


class OpenVinoNetwork:
    """Called like the torch network that it was made from; gives its output's tensors by name, in fp32."""

    def __init__(self, compiled: Any) -> None:
        self._request = compiled.create_infer_request()
        self._takes_type_ids = any("token_type_ids" in port.get_names() for port in compiled.inputs)
        self._names = [port.get_any_name() for port in compiled.outputs]

    def __call__(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None,
        token_type_ids: torch.Tensor | None = None,
    ) -> SimpleNamespace:
        """Tensors as (n, length); no mask means that nothing is padding."""
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        inputs = {"input_ids": input_ids.numpy(), "attention_mask": mask.numpy()}
        if self._takes_type_ids:
            types = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
            inputs["token_type_ids"] = types.numpy()
        # Outputs are copied: the next pass would write over them.
        results = self._request.infer(inputs, share_inputs=True)
        return SimpleNamespace(**{name: torch.from_numpy(results[index]) for index, name in enumerate(self._names)})


class _Traceable(torch.nn.Module):
    """The network with tensors in and tensors out."""

    def __init__(self, network: Any, names: list[str], mask: str) -> None:
        super().__init__()
        self._network = network
        self._names = names
        self._mask = mask

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, ...]:
        mask: Any = attention_mask
        if self._mask != "plain":
            mask = _added(mask[:, None, None, :] > 0)
        if self._mask == "windowed":
            places = torch.arange(input_ids.shape[1])
            near = (places[:, None] - places[None, :]).abs() <= self._network.config.sliding_window
            mask = {"full_attention": mask, "sliding_attention": _added(near & (attention_mask[:, None, None, :] > 0))}
        given = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        output = self._network(input_ids=input_ids, attention_mask=mask, **given)
        return tuple(output[name] for name in self._names)


def _added(seen: torch.Tensor) -> torch.Tensor:
    """0 where a token is seen, else so little that nothing is left of its score."""
    return (~seen).float() * torch.finfo(torch.float32).min


def _masks(config: Any) -> tuple[str, ...]:
    windowed = "sliding_attention" in (getattr(config, "layer_types", None) or ())
    return _MASKS if windowed else _MASKS[1:]


def open_network(
    network: Any,
    *,
    digest: str,
    takes_type_ids: bool,
    takes_mask: bool,
    dtype: torch.dtype,
    threads: int,
    fits: Callable[[Any], bool],
    packed: bool = False,
) -> OpenVinoNetwork | PackedOpenVinoNetwork | str:
    """`network` (fp32, on the CPU) converted, or as it was kept, if `fits` agrees; else why not, in words. `packed`
    asks for the one that computes real tokens alone."""
    if dtype not in _HINTS or (dtype is torch.bfloat16 and "BF16" not in _capabilities()):
        return f"it does not compute in {str(dtype).removeprefix('torch.')} here"
    if not takes_mask:
        return "its network takes no mask"
    folder = _folder(network, digest, packed=packed)
    reason = "its numbers are too far from torch's"

    def opened_of(model: Any) -> OpenVinoNetwork | PackedOpenVinoNetwork:
        compiled = _compile(model, dtype, threads)
        return PackedOpenVinoNetwork(compiled, network.base_model) if packed else OpenVinoNetwork(compiled)

    opened = _open_kept(folder, opened_of, fits)
    if opened is not None:
        return opened
    lasting = True
    for mask in (_PACKED,) if packed else _masks(network.config):
        try:
            model = _convert(network, takes_type_ids, mask)
        except Exception as error:  # of many libraries, for what they do not support
            words = str(error) if isinstance(error, UnpackableError) else type(error).__name__
            reason = f"it can't be converted ({words})"
            continue
        try:
            candidate = opened_of(model)
            well = fits(candidate)
        except Exception as error:
            reason, lasting = f"it does not run here ({type(error).__name__})", False
            continue
        if well:
            _keep(folder, MODEL_FILE, partial(_openvino().save_model, model, compress_to_fp16=False))
            return candidate
        lasting = lasting and dtype is torch.float32  # a lower precision's distance says nothing of fp32
    if lasting:
        _keep(folder, REFUSED_FILE, lambda file: file.write_text(reason))
    return reason


def _open_kept(
    folder: Path,
    opened_of: Callable[[str], OpenVinoNetwork | PackedOpenVinoNetwork],
    fits: Callable[[Any], bool],
) -> OpenVinoNetwork | PackedOpenVinoNetwork | str | None:
    """What was kept, or the reason that was kept; None where there is nothing that can be used."""
    try:
        if (folder / REFUSED_FILE).is_file():
            return (folder / REFUSED_FILE).read_text()
        if not (folder / MODEL_FILE).is_file():
            return None
        candidate = opened_of(str(folder / MODEL_FILE))
        if fits(candidate):
            return candidate
        reason = "its numbers are too far from torch's"
    except Exception as error:  # of a damaged file, in the words of many libraries
        reason = type(error).__name__
    log.warning("the converted model in %s can't be used (%s): it is converted again", folder, reason)
    shutil.rmtree(folder, ignore_errors=True)
    return None


def _openvino() -> Any:
    # Its import reports to its maker's servers unless this package is missing.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino  # type: ignore[import-untyped]

    return openvino


def _capabilities() -> list[str]:
    found: list[str] = _openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return found


def _compile(model: Any, dtype: torch.dtype, threads: int) -> Any:
    """One stream, and no pinning: several workers would pin themselves to the same cores."""
    settings = {
        "INFERENCE_PRECISION_HINT": _HINTS[dtype],
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
    }
    return _openvino().Core().compile_model(model, "CPU", settings)


def _convert(network: Any, takes_type_ids: bool, mask: str) -> Any:
    """Traced with a padded batch; all sizes stay open."""
    ids = torch.ones((2, 9), dtype=torch.int64)
    padding = torch.ones_like(ids)
    padding[0, 7:] = 0
    example = {"input_ids": ids, "attention_mask": padding}
    if takes_type_ids:
        example["token_type_ids"] = torch.zeros_like(ids)
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracer, for every branch on a size
        output = network(**example)
        names = [name for name, value in output.items() if isinstance(value, torch.Tensor) and name != "pooler_output"]
        level, filters = logging.root.level, logging.root.filters[:]
        try:
            if mask == _PACKED:
                with packed_openvino.Traceable(network, names, takes_type_ids=takes_type_ids) as packed:
                    model = _openvino().convert_model(packed, example_input=packed.example())
            else:
                model = _openvino().convert_model(_Traceable(network, names, mask), example_input=example)
        finally:  # one that fails leaves all logs of the process at the level of errors
            logging.root.setLevel(level)
            logging.root.filters[:] = filters
    for port, name in zip(model.outputs, names, strict=True):
        port.get_tensor().set_names({name})
    return model


def _folder(network: Any, digest: str, *, packed: bool) -> Path:
    import transformers

    versions = (_openvino().__version__, transformers.__version__, torch.__version__)
    parts = (_FORMAT, digest[:_DIGEST_CHARACTERS], type(network).__name__, *versions)
    name = "-".join(part.split("-")[0] for part in parts)
    return kept.root() / "openvino" / (f"{name}-{_PACKED}" if packed else name)


def _keep(folder: Path, name: str, write: Callable[[Path], object]) -> None:
    """Let `write` make a file in a directory that becomes `folder` whole, or not at all: other workers may convert the
    same model. Where that fails, as on a full disk, the next start converts again."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, ignore_cleanup_errors=True) as place:
            whole = Path(place) / "whole"
            whole.mkdir()
            write(whole / name)
            whole.rename(folder)
    except Exception as error:  # OpenVINO raises its own where it can't write
        if not folder.is_dir():
            reason = error.strerror if isinstance(error, OSError) else type(error).__name__
            log.warning("the converted model is not kept: %s", reason)
