"""What to do about an error of Kafka's, and how to say it to people."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import TypeVar

from confluent_kafka import KafkaError, KafkaException, Message

from streamer.core.obstacles import Damage
from streamer.core.settle.calls import Act
from streamer.errors import ConfigurationError, DependencyError, StreamerError
from streamer.kafka.announced import unreachable
from streamer.kafka.tokens import out_of_tokens

T = TypeVar("T")

_DENIED = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    }
)
_LOGIN = frozenset(
    {
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.UNSUPPORTED_SASL_MECHANISM,
        KafkaError.ILLEGAL_SASL_STATE,
        KafkaError._AUTHENTICATION,
    }
)
MISSING = frozenset(
    {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.UNKNOWN_TOPIC_ID, KafkaError._UNKNOWN_TOPIC, KafkaError._NOENT}
)
_UNREACHABLE = frozenset(
    {
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._TIMED_OUT,
        KafkaError._RESOLVE,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.BROKER_NOT_AVAILABLE,
    }
)
_FENCED = frozenset(
    {
        KafkaError._FENCED,
        KafkaError.PRODUCER_FENCED,
        KafkaError.INVALID_PRODUCER_EPOCH,
        KafkaError.FENCED_INSTANCE_ID,
        KafkaError.UNRELEASED_INSTANCE_ID,
    }
)
_PURGED = frozenset({KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT})
# librdkafka hands a failed handshake over as _TRANSPORT at times (seen with 2.16.1); a broker that dies in the middle
# of one leaves OpenSSL's words too, but those pass.
_TLS, _CUT = "SSL routines", "unexpected eof"
_OTHER_LISTENER = "listener?"  # the client's guess that it wants TLS and gets none, or the other way round
_OFFERED = "broker's supported mechanisms:"
_OUT_OF_RANGE = frozenset({KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._NO_OFFSET})
UNREADABLE = {
    KafkaError._BAD_MSG: Damage.CHECKSUM,
    KafkaError._BAD_COMPRESSION: Damage.PACKED,
    KafkaError._UNDERFLOW: Damage.CHECKSUM,
    KafkaError._NOT_IMPLEMENTED: Damage.FORMAT,
    KafkaError.INVALID_MSG: Damage.CHECKSUM,
}
"""What the client says of a batch that is damaged, or more than it unpacks. It asks for it again for ever."""
_TOO_LARGE = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE})
_BAD_TOPIC = frozenset(
    {
        KafkaError.TOPIC_EXCEPTION,
        KafkaError.INVALID_TIMESTAMP,
        KafkaError.POLICY_VIOLATION,
        KafkaError.UNSUPPORTED_FOR_MESSAGE_FORMAT,
        KafkaError._UNKNOWN_PARTITION,
    }
)
_REBALANCES = frozenset({KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID, KafkaError.REBALANCE_IN_PROGRESS})
NOT_THERE = MISSING | {KafkaError._UNKNOWN_PARTITION}
"""A topic or a partition is not there, as far as whoever says so knows."""


def answer(future: Future[T], timeout_s: float | None = None) -> T:
    """An admin request's result. Raises KafkaException, as a copy of the one in the future, or for a time-out.

    A future's own exception would take the frames on its way up with it, and those hold the future and the client: a
    cycle. The garbage collector would then destroy the client in whatever thread it happens to run, and librdkafka
    aborts the process when that is one of its own (seen with 2.16.1).
    """
    try:
        error = future.exception(timeout_s)
    except TimeoutError:  # ours may be over before the client's
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"no answer in {timeout_s:g} s")) from None
    if isinstance(error, KafkaException):
        raise KafkaException(*error.args)
    return future.result()


def error_of(error: KafkaException | KafkaError) -> KafkaError:
    """The KafkaError inside."""
    return error.args[0] if isinstance(error, KafkaException) else error


def is_missing(error: KafkaException | KafkaError) -> bool:
    """Whether it says that a topic does not exist."""
    return error_of(error).code() in MISSING


def _is_denied(code: int) -> bool:
    """Whether it is no use to try again: a login that is refused for want of a token is another matter."""
    return code in _DENIED or (code in _LOGIN and not out_of_tokens())


def act_on_producer(error: KafkaException | KafkaError) -> Act:
    """After a producer's or a transactional call, or in a delivery report.

    The algebra is librdkafka's: `fatal()` → a new client, `txn_requires_abort()` → abort, `retriable()` → again; none
    of the three counts as fatal. `_FENCED` comes of a second owner of the id *and* of a transaction that the broker
    timed out (librdkafka #3928), so it is left to the caller, who knows the slot.
    """
    inner = error_of(error)
    code = inner.code()
    if code in _PURGED:
        return Act.IGNORE
    if code in _FENCED:
        return Act.FENCED
    if _is_denied(code):
        return Act.DENIED
    if code in _TOO_LARGE:
        return Act.TOO_LARGE
    if code == KafkaError.INVALID_RECORD:
        return Act.BAD_RECORD
    if code in _BAD_TOPIC or code in MISSING:
        return Act.BAD_TOPIC
    if inner.fatal():
        return Act.REBUILD
    if inner.txn_requires_abort():
        return Act.STALE if code in _REBALANCES else Act.ABORT
    return Act.RETRY if inner.retriable() else Act.REBUILD


def act_on_consumer(error: KafkaException | KafkaError) -> Act:
    """An error that `poll` or `consume` handed over, or that a consumer's call raised.

    A static member fenced by a newer owner of its slot sees `_FATAL` with `fatal()` false and nothing in the error
    callback (measured), so the text has to tell. What may pass by itself is RETRY, a topic gone missing included.
    """
    inner = error_of(error)
    code = inner.code()
    if code in _FENCED or (code == KafkaError._FATAL and "fenced" in inner.str().lower()):
        return Act.FENCED
    if _is_denied(code):
        return Act.DENIED
    if code in _OUT_OF_RANGE:
        return Act.OUT_OF_RANGE
    return Act.REBUILD if inner.fatal() or code == KafkaError._FATAL else Act.RETRY


def passes_for_reader(error: KafkaError) -> bool:
    """Whether a reader outside of any group reads on. librdkafka asks for the coordinator of a group all the same, and
    tells that it may not: that is none of a reader's rights."""
    return error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED or act_on_consumer(error) is Act.RETRY


def unreadable_error(message: Message, *, address: str) -> DependencyError:
    """What to say of a batch that the client can't read."""
    error = message.error()
    name = error.name().lstrip("_") if error else ""
    place = f"{message.topic()}/{message.partition()}"
    return DependencyError(
        f"Kafka at {address}: {place} can't be read at offset {message.offset()} ({name}): the batch there"
        " is damaged, or unpacks to more than receive.message.max.bytes; raise that in kafka.properties, or restore the"
        " batch from a replica"
    )


def start_error(
    error: KafkaException | KafkaError, *, address: str, operation: str = "Describe", resource: str = ""
) -> StreamerError:
    """An error at start, as ours: which address, topic or right, and how to fix it.

    `operation` is the ACL's word (Read, Write, Describe, Create …) for what was tried on `resource`, e.g.
    `topic reviews` or `group streamer.sentiment`.
    """
    inner = error_of(error)
    code = inner.code()
    text = inner.str().partition(" (after ")[0]
    where = f"Kafka at {address}"
    instead = ""
    if resource.startswith("transactional-id "):  # some clusters that speak Kafka have no transactions
        instead = '; or, where the cluster has none, write guarantee = "at_least_once" for the pipeline'
    if code in _DENIED:
        kind, _, name = resource.partition(" ")
        flag = f"--{kind} {name}" if kind in ("topic", "group", "transactional-id") else "--cluster"
        if kind == "topics":
            flag = " ".join(f"--topic {each}" for each in name.split(", "))
        return ConfigurationError(
            f"{where} denies the right to {operation} {resource or 'the cluster'} ({inner.name()}); grant it with"
            f" kafka-acls --add --allow-principal User:NAME --operation {operation} {flag}{instead}"
        )
    if code in _LOGIN and _OFFERED in text:
        return ConfigurationError(_no_such_login(where, text))
    if code in _LOGIN:
        return ConfigurationError(
            f"{where} refuses the login ({text}); correct sasl.mechanism, sasl.username and sasl.password"
            " in kafka.properties, or the token that kafka.oauth_callback gives"
        )
    if code == KafkaError._SSL or (code in _UNREACHABLE and _TLS in text and _CUT not in text):
        return ConfigurationError(
            f"{where}: the TLS handshake failed ({text}); correct security.protocol and ssl.ca.location"
            " in kafka.properties"
        )
    if code in MISSING:
        return ConfigurationError(
            f"{where} has no {resource or 'such topic'}; create it (`streamer topics create`"
            " creates those of the configuration)"
        )
    if code == KafkaError.TOPIC_EXCEPTION and resource.startswith("topic "):
        return ConfigurationError(
            f"{resource.removeprefix('topic ')!r} can't be a topic: a topic's name has letters, digits, . _ and -, 249"
            " at most"
        )
    if code in _UNREACHABLE:
        if silent := unreachable(address):
            return silent_error(address, silent)
        if instead:
            return DependencyError(
                f"{where} lets no transaction begin ({inner.name()}: {text}); see that its brokers run and could create"
                f" __transaction_state (transaction.state.log.replication.factor){instead}"
            )
        protocol = " and security.protocol" if _OTHER_LISTENER in text else ""
        return DependencyError(
            f"{where} does not answer ({inner.name()}: {text}); start it, or correct kafka.bootstrap_servers{protocol}"
        )
    if code == KafkaError._BAD_MSG:
        return DependencyError(f"{where}: what answers there is no Kafka ({text}); correct kafka.bootstrap_servers")
    return DependencyError(f"{where} answers {inner.name()} ({text}) to {operation} {resource}".rstrip() + instead)


def _no_such_login(where: str, text: str) -> str:
    """The listener does not do the login that was tried."""
    if offered := text.rpartition(_OFFERED)[2].strip():
        return f"{where} does not know this sasl.mechanism; it offers {offered}; set one of them in kafka.properties"
    return (
        f"{where} asks for no login at this address; set security.protocol to PLAINTEXT or SSL in kafka.properties, or"
        " name the address of a listener that asks for one"
    )


def silent_error(address: str, silent: Sequence[str]) -> DependencyError:
    """A cluster that answers at `address`, with brokers that announce themselves where nobody does."""
    return DependencyError(
        f"Kafka at {address} answers, but says that its brokers are at {', '.join(silent)}, where nobody answers this"
        " machine; correct advertised.listeners of these brokers, start them, or let this machine reach them"
    )
