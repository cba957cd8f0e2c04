"""Make an order: who asks, as which job, for what."""

from __future__ import annotations

import getpass
import os
import secrets
import socket
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from streamer.core.deadletters.replay import Signature
from streamer.core.deadletters.selection import Selection
from streamer.ops.dlq.move import utc_text
from streamer.ops.dlq.survey import Order


def make_order(
    action: str,
    topics: Sequence[str],
    selection: Selection,
    asked: Mapping[str, Any],
    job: str | None,
    most: int | None,
    rate_per_s: float | None,
    *,
    reopens: str = "",
    **more: Any,
) -> Order:
    """An order signed by the user of this process. `asked` is the filter in its words, `more` what else was asked.

    Without a job's name one is made up of the action, the time and four random digits.
    """
    name = job or f"{action}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"
    signature = Signature(name, signer(), utc_text())
    rest = {key: value for key, value in {**more, "most": most}.items() if value not in (None, "", False)}
    wanted = {"topics": list(topics), "filter": dict(asked), **rest}
    if reopens:
        wanted["reopens"] = reopens
    return Order(action, list(topics), selection, signature, wanted, most, rate_per_s, reopens, job is not None)


def signer(name: str = "") -> str:
    """The user of this process, who acts for the one with this name where there is one."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = f"uid {os.getuid()}"
    here = f"{user}@{socket.gethostname()}"
    return f"{name} (console of {here})" if name else here
