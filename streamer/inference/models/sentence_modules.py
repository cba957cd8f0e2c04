"""What comes after the network in a sentence-transformers directory: its modules, from token vectors to one vector."""

from __future__ import annotations

from pathlib import Path
from typing import Final, get_args

import msgspec
import torch
from safetensors.torch import load_file

from streamer.errors import ModelError
from streamer.inference.models.model_json import parse
from streamer.inference.models.own_pages import own_tensors
from streamer.inference.models.sentence_files import Module, SentenceFiles
from streamer.inference.tasks.options import Pooling

TOKENS: Final[str] = "token_embeddings"
VECTOR: Final[str] = "sentence_embedding"
_WEIGHTS: Final = "model.safetensors"
# Those that see one number at a time and have no weights.
_ACTIVATIONS: Final = (
    *("CELU", "ELU", "GELU", "Hardshrink", "Hardsigmoid", "Hardswish", "Hardtanh", "Identity", "LeakyReLU"),
    *("LogSigmoid", "Mish", "ReLU", "ReLU6", "SELU", "SiLU", "Sigmoid", "Softplus", "Softshrink", "Softsign", "Tanh"),
    "Tanhshrink",
)
_ACTIVATION_PLACES: Final = ("torch.nn", "torch.nn.modules", "torch.nn.modules.activation", "torch.nn.modules.linear")
# The order of their flags is that of the vectors where there are several.
_FLAGS: Final[dict[str, Pooling]] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
Features = dict[str, torch.Tensor]
"""What the modules hand on: token vectors (n, length, d) and vectors (n, d), in fp32, by the names of the library."""


class Tokens(msgspec.Struct, frozen=True):
    """Which tokens of (n, length) count. `mask` (n, length) is None where none is padding; `left_out` (n,) are the
    first tokens of each row, of its prompt, that a pooling without the prompt leaves out; None where it has none."""

    mask: torch.Tensor | None
    left_out: torch.Tensor | None


class Chain(torch.nn.Module):
    """The modules one after the other, as the files and the options say."""

    def __init__(self, path: Path, files: SentenceFiles, pooling: Pooling | None, normalize: bool | None) -> None:
        """Options go before the files. Raises `ModelError` for modules that don't fit one another, or the options."""
        super().__init__()
        first, *others = files.modules
        steps = [step for module in others if (step := _step(path, module, pooling)) is not None]
        if pooling is not None and sum(isinstance(step, TokenPooling) for step in steps) != 1:
            raise ModelError("option pooling is for models with one Pooling, and modules.json has none or several")
        if normalize is not None and steps and _normalizes(steps[-1]):
            steps.pop()
        if normalize is False and any(map(_normalizes, steps)):
            raise ModelError("option normalize: modules.json has a Normalize that others follow; leave the option out")
        if normalize:
            steps.append(Normalize(VECTOR, VECTOR))
        self._begin = TOKENS if first.kind == "Transformer" else VECTOR
        _check_names(self._begin, steps)
        self.steps = torch.nn.ModuleList(steps)
        self.normalizes = bool(steps) and _normalizes(steps[-1])
        self.leaves_out = any(isinstance(step, TokenPooling) and not step.include_prompt for step in steps)
        self.requires_grad_(False)

    def forward(self, hidden: torch.Tensor, tokens: Tokens) -> torch.Tensor:
        """(n, dimensions) in fp32."""
        features = {self._begin: hidden}
        for step in self.steps:
            step(features, tokens)
        return features[VECTOR].float()


class Step(torch.nn.Module):
    """One module: reads `takes` of the features and writes `gives`."""

    takes = VECTOR
    gives = VECTOR

    def forward(self, features: Features, tokens: Tokens) -> None:
        """Changes `features`."""
        features[self.gives] = self.compute(features[self.takes].float(), tokens)

    def compute(self, values: torch.Tensor, tokens: Tokens) -> torch.Tensor:
        """What it makes of its input."""
        raise NotImplementedError


class TokenPooling(Step):
    """Token vectors to one vector: of each mode one, side by side."""

    takes = TOKENS

    def __init__(self, modes: tuple[Pooling, ...], include_prompt: bool) -> None:
        super().__init__()
        self.modes = modes
        self.include_prompt = include_prompt

    def forward(self, features: Features, tokens: Tokens) -> None:
        """Token vectors stay in the network's dtype: they are many."""
        features[VECTOR] = self.compute(features[TOKENS], tokens)

    def compute(self, hidden: torch.Tensor, tokens: Tokens) -> torch.Tensor:
        """(n, d) a mode. Of no token at all the largest is -inf, the first the row's first; all others are 0."""
        left_out = None if self.include_prompt else tokens.left_out
        if left_out is None and self.modes == ("mean",):
            if tokens.mask is None:
                return hidden.mean(dim=1, dtype=torch.float32)
            weights = (tokens.mask / tokens.mask.sum(dim=1, keepdim=True)).unsqueeze(1)
            return torch.bmm(weights, hidden.float()).squeeze(1)
        count, length = hidden.shape[:2]
        places = torch.arange(length, device=hidden.device)
        real = hidden.new_ones(count, length, dtype=torch.bool) if tokens.mask is None else tokens.mask.bool()
        first = real.int().argmax(dim=1)
        kept = real if left_out is None else real & (places >= (first + left_out).unsqueeze(1))
        pooled = [_pooled(mode, hidden, kept, first, places) for mode in self.modes]
        return pooled[0] if len(pooled) == 1 else torch.cat(pooled, dim=-1)


def _pooled(
    mode: Pooling, hidden: torch.Tensor, kept: torch.Tensor, first: torch.Tensor, places: torch.Tensor
) -> torch.Tensor:
    """(n, d): of the `kept` (n, length) tokens; `first` is the place of each row's first real token."""
    rows = torch.arange(len(hidden), device=hidden.device)
    match mode:
        case "cls":
            return hidden[rows, torch.where(kept.any(dim=1), kept.int().argmax(dim=1), first)].float()
        case "lasttoken":
            last = len(places) - 1 - kept.flip(1).int().argmax(dim=1)
            return hidden[rows, last].float() * kept.any(dim=1, keepdim=True)
        case "max":
            return hidden.masked_fill(~kept.unsqueeze(-1), -torch.inf).amax(dim=1).float()
    weights = kept.float()
    if mode == "weightedmean":
        weights = weights * (places - first.unsqueeze(1) + 1)
    total = weights.sum(dim=1, keepdim=True).clamp(min=1)
    weights = weights / (total.sqrt() if mode == "mean_sqrt_len_tokens" else total)
    return torch.bmm(weights.unsqueeze(1), hidden.float()).squeeze(1)


class Normalize(Step):
    """Vectors of length 1."""

    def __init__(self, takes: str, gives: str) -> None:
        super().__init__()
        self.takes, self.gives = takes, gives

    def forward(self, features: Features, tokens: Tokens) -> None:
        """What is not there is left, as the library does."""
        if self.takes in features:
            super().forward(features, tokens)

    def compute(self, values: torch.Tensor, tokens: Tokens) -> torch.Tensor:
        """Along the last axis."""
        return torch.nn.functional.normalize(values, dim=-1)


class Dense(Step):
    """A linear layer and its activation, with the input beside them where it has a residual."""

    def __init__(self, config: _DenseConfig, file: str) -> None:
        super().__init__()
        sizes = config.in_features, config.out_features
        self.takes = config.module_input_name
        self.gives = config.module_output_name or config.module_input_name
        self.linear = torch.nn.Linear(*sizes, bias=config.bias)
        if config.use_residual:
            self.residual = torch.nn.Identity() if sizes[0] == sizes[1] else torch.nn.Linear(*sizes, bias=False)
        self._residual = config.use_residual
        self._activation = activation(config.activation_function, f"{file} of the model: activation_function")
        self._file = file

    def compute(self, values: torch.Tensor, tokens: Tokens) -> torch.Tensor:
        """Along the last axis."""
        _check_width(values, self.linear.in_features, f"{self._file} of the model: in_features")
        computed: torch.Tensor = self._activation(self.linear(values))
        return computed + self.residual(values) if self._residual else computed


class LayerNorm(Step):
    """Vectors with mean 0 and variance 1, scaled."""

    def __init__(self, dimension: int, file: str) -> None:
        super().__init__()
        self.norm = torch.nn.LayerNorm(dimension)
        self._file = file

    def compute(self, values: torch.Tensor, tokens: Tokens) -> torch.Tensor:
        """Along the last axis."""
        _check_width(values, self.norm.normalized_shape[0], f"{self._file} of the model: dimension")
        normed: torch.Tensor = self.norm(values)
        return normed


def activation(name: str, place: str) -> torch.nn.Module:
    """The function that a file names by its class; `place` is the file and field. Raises `ModelError`."""
    module, _, kind = name.rpartition(".")
    if module not in _ACTIVATION_PLACES or kind not in _ACTIVATIONS:
        raise ModelError(f"{place} names {name}, which is not supported")
    function: torch.nn.Module = getattr(torch.nn, kind)()
    return function


def read_weights(path: Path, folder: str) -> dict[str, torch.Tensor]:
    """The tensors of a module's own file. Raises `ModelError`."""
    file = f"{folder}/{_WEIGHTS}" if folder else _WEIGHTS
    if not (path / file).is_file():
        raise ModelError(f"the model lacks {file}, which modules.json needs (save_pretrained writes it)")
    try:
        return own_tensors(load_file(path / file))
    except Exception as error:  # of safetensors, without a class of its own for each cause
        raise ModelError(f"{file} of the model can't be read as safetensors ({error})") from None


# --- the files ---


class _PoolingConfig(msgspec.Struct, forbid_unknown_fields=True):
    embedding_dimension: int | None = None
    word_embedding_dimension: int | None = None
    pooling_mode: Pooling | list[Pooling] | msgspec.UnsetType = msgspec.UNSET
    include_prompt: bool = True
    pooling_mode_cls_token: bool = False
    pooling_mode_max_tokens: bool = False
    pooling_mode_mean_tokens: bool = False
    pooling_mode_mean_sqrt_len_tokens: bool = False
    pooling_mode_weightedmean_tokens: bool = False
    pooling_mode_lasttoken: bool = False


class _DenseConfig(msgspec.Struct, forbid_unknown_fields=True):
    in_features: int
    out_features: int
    bias: bool = True
    activation_function: str = "torch.nn.Tanh"
    module_input_name: str = VECTOR
    module_output_name: str | None = None
    use_residual: bool = False


class _NormalizeConfig(msgspec.Struct):
    module_input_name: str = VECTOR
    module_output_name: str | None = None


class _LayerNormConfig(msgspec.Struct, forbid_unknown_fields=True):
    dimension: int


def _step(path: Path, module: Module, pooling: Pooling | None) -> Step | None:
    """A module as the files say; None for one that only training needs."""
    if module.kind == "Dropout":
        return None
    if module.config is None and module.kind != "Normalize":
        raise ModelError(f"the model lacks {module.file}, which modules.json names for its {module.kind}")
    config = module.config or b"{}"
    if module.kind == "Pooling":
        said = parse(config, module.file, _PoolingConfig)
        return TokenPooling((pooling,) if pooling else _modes(said, module.file), said.include_prompt)
    if module.kind == "Normalize":
        names = parse(config, module.file, _NormalizeConfig)
        return Normalize(names.module_input_name, names.module_output_name or names.module_input_name)
    step: Step
    if module.kind == "Dense":
        step = Dense(parse(config, module.file, _DenseConfig), module.file)
    else:
        step = LayerNorm(parse(config, module.file, _LayerNormConfig).dimension, module.file)
    try:
        step.load_state_dict(read_weights(path, module.folder))
    except RuntimeError:
        raise ModelError(f"{module.folder}/{_WEIGHTS} of the model does not hold what {module.file} says") from None
    return step


def _modes(said: _PoolingConfig, file: str) -> tuple[Pooling, ...]:
    """One field says it, or one or several older flags; without any it is the mean."""
    if said.pooling_mode is msgspec.UNSET:
        return tuple(mode for flag, mode in _FLAGS.items() if getattr(said, flag)) or ("mean",)
    if not said.pooling_mode:
        raise ModelError(f"{file} of the model: pooling_mode names none of {', '.join(get_args(Pooling))}")
    return (said.pooling_mode,) if isinstance(said.pooling_mode, str) else tuple(said.pooling_mode)


def _normalizes(step: torch.nn.Module) -> bool:
    return isinstance(step, Normalize) and step.gives == VECTOR


def _check_names(begin: str, steps: list[Step]) -> None:
    """Each module finds what it reads, and the last leave a vector."""
    there = {begin}
    for step in steps:
        if step.takes in there:
            there.add(step.gives)
        elif not isinstance(step, Normalize):
            raise ModelError(
                f"modules.json of the model: no module before its {type(step).__name__} gives {step.takes}"
            )
    if VECTOR not in there:
        raise ModelError("modules.json of the model has no Pooling: its tokens do not become a vector")


def _check_width(values: torch.Tensor, width: int, place: str) -> None:
    if values.shape[-1] != width:
        raise ModelError(f"{place} is {width}, and the module before gives {values.shape[-1]} numbers")
