"""File names that a configuration gives. Those in the TOML file are relative to the folder that it lies in, so that it
says the same wherever a command is started; those of variables and flags are relative to the working directory."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

# The Kafka client's own properties that name a file, or a folder of certificates.
_FILE_PROPERTY: Final = re.compile(r"ssl\.(ca|certificate|key|keystore|crl)\.location|.*[._]file|.*\.keytab")
_NOT_FILES: Final = frozenset({"", "none", "probe"})
"""Words that take the place of a file's name."""


def names_file(name: str) -> bool:
    """Whether a property of the Kafka client names a file."""
    return _FILE_PROPERTY.fullmatch(name) is not None


def anchored(file: str, folder: Path) -> str:
    """A file's name from `folder`, with `~` for the home directory. An absolute one and a word in its place stay."""
    if file in _NOT_FILES or "\0" in file or "://" in file:
        return file
    try:
        return str(folder / Path(file).expanduser())
    except RuntimeError:  # there is no such user: whoever opens it says so
        return file


def anchored_model(reference: str, folder: Path) -> str:
    """A model's directory from `folder`; references of other forms stay."""
    if reference.startswith("~"):
        return reference
    if ("@" in reference or re.match(r"\w+:", reference)) and not (folder / reference).is_dir():
        return reference
    return anchored(reference, folder)
