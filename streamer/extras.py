"""How this installation gets one of its optional parts.

The package index has another project under the name `streamer`, so the distribution's name is another one.
"""

from __future__ import annotations

import json
import shlex
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit
from urllib.request import url2pathname

DISTRIBUTION: Final = "streamer-inference"


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
