"""Where the workers that we start write their standard output and error."""

from __future__ import annotations

descriptor: int | None = None
"""None: where ours goes. Else a pipe that this process reads: what stands behind our own standard error can't hold a
worker up then."""
