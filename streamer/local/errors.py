"""What can go wrong while the local stack is started."""

from __future__ import annotations

from streamer.errors import DependencyError


class MissingPart(DependencyError):  # noqa: N818 (the word that users of the module read best)
    """A program or library that the local stack needs is absent; the message is one line that says how to fix it."""


class StartFailed(DependencyError):  # noqa: N818
    """A process of the local stack ended or stayed unready; the message ends with the last lines of its log."""


class PortTaken(StartFailed):
    """Another program listens on the port that a process was to use."""
