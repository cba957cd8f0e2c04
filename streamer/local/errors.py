"""What can go wrong while the local stack is started."""

from __future__ import annotations

from streamer.errors import DependencyError


class MissingPart(DependencyError):
    """A program or library that the local stack needs is absent; the message is one line that says how to mend it."""


class StartFailed(DependencyError):
    """A process of the local stack ended or stayed unready; the message ends with the last lines of its log."""


class PortTaken(StartFailed):
    """Another program listens on the port that a process was to use."""
