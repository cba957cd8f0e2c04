"""Schemas from a registry: asked for on a thread of their own, once each; while the registry is away, records wait."""

from __future__ import annotations

import threading
import time
from base64 import b64decode
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from io import BytesIO
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from streamer.config.pipeline import PipelineConfig
from streamer.config.registry import SchemaRegistryConfig
from streamer.core.events.framed import NOT_FRAMED, SchemaName, schema_named
from streamer.core.pipeline.pipeline import Pipeline
from streamer.core.pipeline.protocol import Input, SchemasLearned
from streamer.core.record import Headers
from streamer.core.standing import Reason, Standing
from streamer.errors import Code, DataFailure, DependencyError
from streamer.kafka.registry_client import TYPES, Outage, connect_registry, outage_of, require
from streamer.kafka.schema_patterns import PatternError

if TYPE_CHECKING:
    from confluent_kafka.schema_registry import Schema

    from streamer.kafka.schema_readers import Format, Read

FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 10.0
REFUSED_S: Final = 60.0
"""So long a schema that is not there is not asked for again."""
MOST_REFUSED: Final = 10_000
_NO_SUCH: Final = range(40400, 40500)
"""What a registry says with HTTP 404 of a schema, a subject or a version that it lacks; else it is no registry."""


class _Refused(NamedTuple):
    failure: DataFailure
    until: float


class RegistrySchemas:
    """Opens the values of one pipeline, from the driver's thread; learns their schemas on its own. Raises
    ConfigurationError where what the format needs is not installed.

    `make_client` is for tests; by default the client is confluent-kafka's, for the registry of the configuration.
    """

    def __init__(
        self,
        config: SchemaRegistryConfig,
        pipeline: PipelineConfig,
        post: Callable[[Input], None] = lambda _: None,
        make_client: Callable[[SchemaRegistryConfig], Any] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        require(config, pipeline.input_format)
        self._config = config
        self._format = pipeline.input_format
        self._subject = pipeline.input_subject
        self._post = post
        self._clock = clock
        self._make_client = make_client or connect_registry
        self._known: dict[SchemaName, Read | _Refused] = {}
        self._outages: dict[SchemaName, Outage] = {}
        self._wanted: SimpleQueue[list[SchemaName] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()
        self._parts: tuple[Any, Format] | None = None

    # --- on the driver's thread ----------------------------------------------------------------------------------

    def knows(self, name: SchemaName) -> bool:
        """Whether it is known, or was found not to be there a short while ago."""
        found = self._known.get(name)
        return found is not None and (not isinstance(found, _Refused) or self._clock() < found.until)

    def open(self, value: bytes, headers: Headers | None, topic: str) -> bytes | DataFailure:
        """The value as JSON, or why it can't be opened."""
        name = schema_named(value, headers)
        if name is None:
            return NOT_FRAMED
        read = self._known.get((topic, name))
        if read is None:  # only what was refused is forgotten
            return DataFailure(Code.DECODE_SCHEMA, f"The schema registry gave no {_title(name)}.")
        if isinstance(read, _Refused):
            return read.failure
        try:
            return read(value, headers, topic)
        except Exception as error:  # whatever a deserializer meets in bytes that anybody may have sent
            return _unfit(error, self._format)

    def learn(self, names: list[SchemaName]) -> None:
        """Ends in a `SchemasLearned` for each, however long that takes."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="schemas", daemon=True)
            self._thread.start()
        self._wanted.put(names)

    def standing(self, pipeline: Pipeline) -> Iterator[Standing]:
        """The partitions that wait for a schema which the registry does not give."""
        for key, sealed in pipeline.seals.partitions.items():
            outage = next(filter(None, map(self._outages.get, sealed.names)), None)
            if outage is not None:
                offset, what = sealed.segment.records[0].offset(), f"{outage.what}, and is asked again"
                yield Standing(key, offset, Reason.SCHEMA_REGISTRY, what, outage.fix)

    def close(self, timeout_s: float = 0.0) -> None:
        """End the thread; a request that is under way is left to its timeout."""
        self._closed.set()
        self._wanted.put(None)
        if self._thread is not None:
            self._thread.join(timeout_s)
        if not (self._thread and self._thread.is_alive()):
            self.disconnect()

    # --- on its own thread, or in a command that may wait ----------------------------------------------------------

    def learn_now(self, name: SchemaName) -> None:
        """Learn one in the caller's thread. Raises DependencyError where the registry does not give it."""
        if not self.knows(name) and (outage := self._ask(name)) is not None:
            raise DependencyError(f"{outage.what}; {outage.fix}")

    def disconnect(self) -> None:
        """Close the client's connections; what is known stays."""
        if self._parts is not None:
            self._parts[0].close()
            self._parts = None

    def reach(self) -> Outage | None:
        """Ask the registry for what any user may know; returns why it does not answer."""
        try:
            self._client()[0].get_schema_types()
        except Exception as error:
            return outage_of(error, self._config.url)
        return None

    def _run(self) -> None:
        """One after the other, the newest first: one that the registry does not give keeps no other waiting."""
        left: deque[SchemaName] = deque()
        pause_s = 0.0
        while not self._closed.is_set():
            with suppress(Empty):
                left.extendleft(self._wanted.get(timeout=pause_s if left else None) or ())
            if not left:
                continue
            name = left.popleft()
            outage = None if self.knows(name) else self._ask(name)
            if outage is None:
                pause_s = 0.0
                self._outages.pop(name, None)
                self._post(SchemasLearned([name]))
            else:
                pause_s = min(max(2 * pause_s, FIRST_PAUSE_S), LONGEST_PAUSE_S)
                self._outages[name] = outage
                left.append(name)

    def _ask(self, name: SchemaName) -> Outage | None:
        """Ask the registry; what it answers is known then. Returns why there is no answer."""
        from confluent_kafka.schema_registry.error import SchemaRegistryError

        topic, given = name
        try:
            schema, number = self._schema(topic, given)
        except SchemaRegistryError as error:
            if error.http_status_code != 404 or error.error_code not in _NO_SUCH:
                return outage_of(error, self._config.url)
            self._refuse(name, f"The schema registry has no {_title(given)}, or lacks a schema that it refers to.")
        except _NoNameError:
            self._refuse(name, "What stands in the header for a schema's id is none.")
        except Exception as error:
            return outage_of(error, self._config.url)
        else:
            self._keep(name, schema, number)
        return None

    def _schema(self, topic: str, given: bytes) -> tuple[Schema, str]:
        """The schema, once all that it refers to is in the client's memory too. Raises SchemaRegistryError, and what
        an HTTP client raises."""
        from confluent_kafka.schema_registry.serde import SchemaId

        client, form = self._client()
        named = SchemaId("")
        try:
            named.from_bytes(BytesIO(given))
        except Exception:
            raise _NoNameError from None
        subject = self._subject_of(topic)
        if named.id is not None:
            schema, title = self._by_id(named.id, subject), f"schema {named.id}"
        else:
            schema, title = client.get_schema_by_guid(str(named.guid), form.wire), f"schema {named.guid}"
        references, seen = list(schema.references or ()), set()
        while references:
            one = references.pop()
            if (place := (one.subject, one.version)) not in seen:
                seen.add(place)
                arguments = (
                    (one.subject, one.version, True, form.wire) if form.wire else (one.subject, one.version, True)
                )
                references += client.get_version(*arguments).schema.references or ()
        return schema, title

    def _by_id(self, number: int, subject: str) -> Schema:
        """A registry that can't serialise a Protobuf schema (Apicurio) may hold it serialised, as Python's producers
        register it."""
        from confluent_kafka.schema_registry.error import SchemaRegistryError

        client, form = self._client()
        try:
            schema: Schema = client.get_schema(number, subject, form.wire)
        except SchemaRegistryError as error:
            if form.wire is None or error.http_status_code < 500:
                raise
            schema = client.get_schema(number, subject)
            try:
                b64decode(schema.schema_str or "", validate=True)
            except ValueError:
                client.clear_caches()  # it would give this one for the other form
                raise error from None
        return schema

    def _keep(self, name: SchemaName, schema: Schema, title: str) -> None:
        kind = schema.schema_type or "AVRO"
        if kind != TYPES[self._format]:
            ours = next((ours for ours, theirs in TYPES.items() if theirs == kind), kind)
            self._refuse(name, f"Its {title} is {ours}; the pipeline's input_format is {self._format}.")
            return
        try:
            self._known[name] = self._client()[1].reader(schema)
        except PatternError as error:
            self._refuse(name, f"Its {title} {error}.")
        except Exception as error:
            self._refuse(name, f"Its {title} can't be read as {self._format} ({type(error).__name__}).")

    def _refuse(self, name: SchemaName, message: str) -> None:
        refused = [one for one, found in self._known.items() if isinstance(found, _Refused)]
        if len(refused) >= MOST_REFUSED:
            for one in refused[: MOST_REFUSED // 2]:
                del self._known[one]
        failure = DataFailure(Code.DECODE_SCHEMA, message)
        self._known[name] = _Refused(failure, self._clock() + REFUSED_S)

    def _client(self) -> tuple[Any, Format]:
        from streamer.kafka.schema_readers import format_of

        if self._parts is None:
            client = self._make_client(self._config)
            self._parts = client, format_of(self._format, client, self._subject_of)
        return self._parts

    def _subject_of(self, topic: str) -> str:
        return self._subject or f"{topic}-value"


class _NoNameError(Exception):
    """What stands for a schema's id is none."""


def _title(given: bytes) -> str:
    return f"schema {int.from_bytes(given[1:5])}" if given[:1] == b"\0" else "schema of that GUID"


def _unfit(error: Exception, input_format: str) -> DataFailure:
    """The failure of data that does not fit its schema; nothing of the data is in it."""
    cause = error.__context__
    where = getattr(cause, "absolute_schema_path", None)
    at = f" at {'/'.join(map(str, where))}" if where else ""
    what = "breaks its schema" + at if where else f"can't be read as {input_format} by its schema"
    return DataFailure(
        Code.DECODE_SCHEMA,
        f"The data {what}: have the producer write it with the serializer, and the schema that the record names.",
        type(error).__name__,
    )
