"""What an exception that ends a command says to its user, and the exit code that it comes to."""

from __future__ import annotations

import difflib
import errno
import logging
import os
import re
from typing import Final

import click

from streamer.errors import ExitCode, StreamerError
from streamer.extras import advice

_FIXES: Final = {
    errno.EACCES: "give this user the right to it",
    errno.EPERM: "give this user the right to it",
    errno.ENOENT: "make it, or name another",
    errno.ENOTDIR: "make it, or name another",
    errno.EISDIR: "name a file",
    errno.EROFS: "name a place that can be written",
    errno.ELOOP: "name it without symbolic links",
    errno.ENAMETOOLONG: "give it a shorter name",
    errno.EADDRINUSE: "choose another port",
    errno.EADDRNOTAVAIL: "choose an address of this host",
}
"""How to fix mistakes that a restart would repeat."""
_REMEDIES: Final = {
    errno.ENOSPC: "free space on that disk",
    errno.EDQUOT: "free space on that disk, or raise the quota",
    errno.EFBIG: "raise the limit of a file's size (ulimit -f), or name a place on another file system",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "close files: the whole host has too many open",
    errno.EAGAIN: "raise the limit of processes (ulimit -u, or pids.max of the container), or free memory",
    errno.ENOMEM: "free memory, or raise the limit",
}
"""What to do where the machine has run out of something."""

_NO_COMMAND: Final = re.compile(r"^No such command '(.*)'\.$")

log = logging.getLogger("streamer.cli")


def told(error: Exception) -> int:
    """Say on standard error why the command ends; returns its exit code. What nobody foresaw is a bug of ours, and goes
    to the log with its places."""
    if isinstance(error, StreamerError):
        return _say(str(error), error.exit_code)
    if isinstance(error, OSError):
        what = ": ".join(str(part) for part in (error.filename, error.strerror or type(error).__name__) if part)
        fix = _FIXES.get(error.errno or 0) or _REMEDIES.get(error.errno or 0)
        log.debug("where this error happened", exc_info=error)
        code = ExitCode.CONFIGURATION if error.errno in _FIXES else ExitCode.DEPENDENCY
        return _say(f"{what}; {fix}" if fix else what, code)
    if text := advice(error):
        return _say(text, ExitCode.CONFIGURATION)
    if isinstance(error, ImportError) and os.strerror(errno.EMFILE) in str(error):  # of a library that is a program
        return _say(f"{os.strerror(errno.EMFILE)}; {_REMEDIES[errno.EMFILE]}", ExitCode.DEPENDENCY)
    if isinstance(error, MemoryError):
        return _say(f"no memory is left; {_REMEDIES[errno.ENOMEM]}", ExitCode.DEPENDENCY)
    if isinstance(error, RuntimeError) and str(error) == "can't start new thread":
        return _say(f"{error}; {_REMEDIES[errno.EAGAIN]}", ExitCode.DEPENDENCY)
    log.critical("this is a bug in streamer: please report it with the lines above", exc_info=error)
    return ExitCode.BUG


def told_of_usage(error: click.ClickException) -> int:
    """Say what is wrong with a command line, with the nearest that exists; returns the exit code."""
    from streamer.telemetry.logs import without_logins

    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is None:
        pass
    elif isinstance(error, click.NoSuchOption):
        hidden = {name for one in context.command.params if getattr(one, "hidden", False) for name in one.opts}
        error.possibilities = [name for name in error.possibilities or () if name not in hidden]
    elif isinstance(context.command, click.Group) and (given := _NO_COMMAND.search(error.message)):
        names = context.command.list_commands(context)
        near = difflib.get_close_matches(given[1], names, n=1)
        error.message += f" Did you mean {near[0]}?" if near else f" There are {', '.join(names)}."
    error.message = without_logins(error.message)  # an argument in a wrong place may be a URL
    error.show()
    return ExitCode.USAGE


def _say(text: str, code: ExitCode) -> int:
    click.echo(f"streamer: {text}", err=True)
    return code
