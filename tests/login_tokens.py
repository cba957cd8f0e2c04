"""A token callback: unsigned tokens, as a broker without keys takes them. Asked for by `kafka.oauth_callback`."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from urllib.parse import parse_qs


def issue(config: str) -> tuple[str, float]:
    """A token for `user`, for `life` seconds; each call leaves a line in `folder`/calls, fails while there is a file
    `folder`/fail, and returns nothing while there is `folder`/hang."""
    given = {name: values[-1] for name, values in parse_qs(config).items()}
    folder, now = Path(given["folder"]), time.time()
    with (folder / "calls").open("a") as calls:
        calls.write(f"{now}\n")
    while (folder / "hang").exists():
        time.sleep(0.1)
    if (folder / "fail").exists():
        raise RuntimeError(given["secret"])
    expiry = now + float(given["life"])
    claims = {"sub": given["user"], "iat": now, "exp": expiry}
    return f"{_part({'alg': 'none'})}.{_part(claims)}.", expiry


def _part(value: dict[str, object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()
