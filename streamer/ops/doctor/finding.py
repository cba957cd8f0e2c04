"""What the doctor finds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How bad it is."""

    ERROR = "error"  # `run` would stop, or records, results or dead letters would be lost or wrong
    WARNING = "warning"  # it runs, but worse than it could


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: `code` is `noun.problem`, for scripts; `where` is what it is about."""

    code: str
    severity: Severity
    where: str
    what: str
    fix: str


def error(code: str, where: str, what: str, fix: str) -> Finding:
    """A finding that keeps from running well at all."""
    return Finding(code, Severity.ERROR, where, what, fix)


def warning(code: str, where: str, what: str, fix: str) -> Finding:
    """A finding to live with, knowingly."""
    return Finding(code, Severity.WARNING, where, what, fix)
