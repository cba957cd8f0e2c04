"""What ends a pipeline when one of its parts, made on a thread of its own, can't be."""

from __future__ import annotations

from streamer.core.pipeline.protocol import SinkFailed
from streamer.errors import ExitCode, StreamerError


def failure(error: Exception, what: str) -> SinkFailed:
    """To be posted to the driver; `what` says what failed, where the error itself is no message of ours."""
    if isinstance(error, StreamerError):
        return SinkFailed(error.exit_code, str(error))
    return SinkFailed(ExitCode.BUG, f"{what}: {type(error).__name__}")
