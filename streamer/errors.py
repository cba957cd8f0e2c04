"""What can go wrong, by class: every error of ours knows its exit code, every failure of a record its code.

Two families that never mix. An *exception* (`StreamerError`) ends a program with its `exit_code`. A *failure*
(`DataFailure`) is a value: it belongs to one record, and ends as that record's dead letter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum


class ExitCode(IntEnum):
    """How a `streamer` process ended; supervisors may act on each."""

    DONE = 0
    BUG = 1
    USAGE = 2
    CONFIGURATION = 3  # configuration, model, ACL or an extra that is missing: a restart does not help
    SOME_FAILED = 4  # `infer`, `evaluate`: some lines failed
    DEPENDENCY = 5  # absent at start, or the model changed since: a restart may help
    HALTED = 6  # by the breaker or a code failure: look before restarting
    FENCED = 7  # another process owns this slot: do not restart
    DRAIN_DEADLINE = 8
    ATTENTION = 9  # `status`: a pipeline needs somebody; `evaluate`: a number is beyond its bound
    SECOND_SIGNAL = 130


class StreamerError(Exception):
    """The base of all errors that end a program with a message for its user."""

    exit_code: ExitCode = ExitCode.BUG


class UsageError(StreamerError):
    """The command line asks for something that does not exist or does not go together."""

    exit_code = ExitCode.USAGE


@dataclass(frozen=True, slots=True)
class Refusal:
    """One thing that is wrong with a configuration. `where` is the file and the field, the variable or the flag; `fix`
    is empty where `problem` says what to write."""

    where: str
    problem: str
    fix: str = ""

    @classmethod
    def of(cls, where: str, text: str) -> Refusal:
        """Of a message that says what is wrong and, after its first semicolon, the fix."""
        problem, _, fix = text.partition("; ")
        return cls(where, problem, fix)

    def __str__(self) -> str:
        return f"{self.where}: {self.problem}{'; ' if self.fix else ''}{self.fix}"


class ConfigurationError(StreamerError):
    """The configuration is wrong; the message names the field and the fix. `refusals` are the problems one by one."""

    exit_code = ExitCode.CONFIGURATION

    def __init__(self, message: str, refusals: Sequence[Refusal] = ()) -> None:
        super().__init__(message)
        self.refusals = tuple(refusals)

    @classmethod
    def of(cls, refusals: Sequence[Refusal]) -> ConfigurationError:
        """All problems of a configuration in one message."""
        if len(refusals) == 1:
            return cls(str(refusals[0]), refusals)
        told = "".join(f"\n- {one}" for one in refusals)
        return cls(f"{len(refusals)} problems in the configuration:{told}", refusals)


class MissingExtraError(StreamerError):
    """A library of an extra is not installed; the message has the command that installs it."""

    exit_code = ExitCode.CONFIGURATION


class ModelError(StreamerError):
    """The model can't be served: not found, unsafe, or not fit for its task."""

    exit_code: ExitCode = ExitCode.CONFIGURATION


class BrokenModelError(ModelError):
    """The model was found and fits its task, but there is NaN or infinity in its weights or in its first answer."""

    exit_code: ExitCode = ExitCode.HALTED


class ChangingModelError(ModelError):
    """The model's files change while they are read: a restart reads them as a whole."""

    exit_code: ExitCode = ExitCode.DEPENDENCY


class DependencyError(StreamerError):
    """A dependency can't be reached; the message names it and its address."""

    exit_code = ExitCode.DEPENDENCY


class HaltedError(StreamerError):
    """A pipeline that was run from Python ended before all was answered; `exit_code` says how."""

    exit_code: ExitCode = ExitCode.HALTED


class FailureClass(StrEnum):
    """Triage: whose fault a failure is. Only `DATA` becomes a dead letter."""

    DATA = "data"
    DEPENDENCY = "dependency"
    DEVICE = "device"
    CODE = "code"


class Code(StrEnum):
    """Every cause of a dead letter, `stage.cause`."""

    DECODE_EMPTY = "decode.empty"
    DECODE_UTF8 = "decode.utf8"
    DECODE_JSON = "decode.json"
    DECODE_CLOUDEVENT = "decode.cloudevent"
    DECODE_CONTENT_TYPE = "decode.content_type"
    DECODE_SCHEMA = "decode.schema"
    VALIDATE_TYPE = "validate.type"
    VALIDATE_TEXT = "validate.text"
    VALIDATE_EMPTY_TEXT = "validate.empty_text"
    VALIDATE_TEXT_PAIR = "validate.text_pair"
    VALIDATE_ID = "validate.id"
    VALIDATE_PARAMS = "validate.params"
    VALIDATE_METADATA = "validate.metadata"
    VALIDATE_TOO_LARGE = "validate.too_large"
    INFER_TOO_LONG = "infer.too_long"
    INFER_EXCEPTION = "infer.exception"
    INFER_NAN = "infer.nan"
    INFER_SERVER = "infer.server"
    INFER_WORKER_KILLED = "infer.worker_killed"
    INFER_WORKER_HUNG = "infer.worker_hung"
    INFER_BURIED = "infer.buried"
    PUBLISH_TOO_LARGE = "publish.too_large"
    PUBLISH_REFUSED = "publish.refused"

    @property
    def stage(self) -> str:
        """The part before the dot: decode, validate, infer or publish."""
        return self.value.partition(".")[0]


@dataclass(frozen=True, slots=True)
class DataFailure:
    """Why one record can't have a result.

    `exception` is a class name. `message` says what, where and how to fix it, and never quotes the record:
    it is written in headers and logs.
    """

    code: Code
    message: str
    exception: str = ""
    attempts: int = 1
