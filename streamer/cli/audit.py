"""`streamer audit`: the same as `streamer dlq audit`."""

from __future__ import annotations

from streamer.cli.dlq.audit import audit

__all__ = ["audit"]
