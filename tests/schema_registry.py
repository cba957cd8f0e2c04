"""A schema registry over HTTP: the calls of it that clients make to write and read records, and switches for outages.

`tests/unit/test_schema_registry.py` holds it to the client that confluent-kafka ships for tests.
"""

from __future__ import annotations

import base64
import json
import ssl
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from confluent_kafka.schema_registry import SchemaRegistryClient, topic_subject_name_strategy
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from streamer.core.record import Headers

BY_TOPIC = {"subject.name.strategy": topic_subject_name_strategy}

TICKET = {
    "type": "record",
    "name": "Ticket",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "text", "type": "string"},
        {"name": "metadata", "type": ["null", {"type": "map", "values": "string"}], "default": None},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
    ],
}
TICKET_JSON = {
    "title": "Ticket",
    "type": "object",
    "properties": {"id": {"type": "integer"}, "text": {"type": "string"}},
    "required": ["text"],
}


def avro(client: Any, event: dict[str, Any], topic: str, schema: Any = TICKET, **conf: Any) -> tuple[bytes, Headers]:
    """The value and headers that a producer sends."""
    context = SerializationContext(topic, MessageField.VALUE, [])
    value = AvroSerializer(client, json.dumps(schema), conf={**BY_TOPIC, **conf})(event, context)
    return value or b"", list(context.headers or [])  # type: ignore[arg-type]


def json_schema(client: Any, event: dict[str, Any], topic: str) -> bytes:
    """The value that a producer sends."""
    context = SerializationContext(topic, MessageField.VALUE, [])
    return JSONSerializer(json.dumps(TICKET_JSON), client, conf=BY_TOPIC)(event, context) or b""


def protobuf(client: Any, event: dict[str, Any], topic: str) -> bytes:
    """The value that a producer sends: the second message of its file, within another one."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory  # type: ignore[import-untyped]

    file = descriptor_pb2.FileDescriptorProto(name="shop.proto", package="shop", syntax="proto3")
    file.message_type.add(name="Other")
    inner = file.message_type.add(name="Shop").nested_type.add(name="Ticket")
    for number, (name, kind) in enumerate((("id", 3), ("text", 9), ("lang", 9)), 1):
        inner.field.add(name=name, number=number, type=kind, label=1)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    ticket = message_factory.GetMessageClass(pool.FindMessageTypeByName("shop.Shop.Ticket"))
    context = SerializationContext(topic, MessageField.VALUE, [])
    return ProtobufSerializer(ticket, client, conf=BY_TOPIC)(ticket(**event), context) or b""


@dataclass
class SchemaServer:
    """`url` is where it answers. While it has a `status`, that is what it answers to all, 0 to say nothing at all.
    `serialises` says whether it knows that form of Protobuf schemas. `asked` are the paths of its requests; with a
    `login` it wants user and password."""

    url: str = ""
    status: int | None = None
    serialises: bool = True
    login: str = ""
    asked: list[str] = field(default_factory=list)
    schemas: list[dict[str, Any]] = field(default_factory=list)

    _clients: list[SchemaRegistryClient] = field(default_factory=list)

    def client(self, path: str = "") -> SchemaRegistryClient:
        """What producers use; it asks once. `path` leads away from the registry."""
        conf: dict[str, Any] = {"url": self.url + path, "max.retries": 0}
        if self.login:
            conf["basic.auth.user.info"] = self.login
        self._clients.append(SchemaRegistryClient(conf))
        return self._clients[-1]

    def close(self) -> None:
        """Close the clients."""
        for client in self._clients:
            client.close()

    def answer(self, method: str, path: list[str], body: dict[str, Any]) -> tuple[int, Any]:
        """Status and body."""
        known = [one for one in self.schemas if one["subject"] == path[1]] if path[0] == "subjects" else self.schemas
        match method, path:
            case "POST", ["subjects", subject, *versions]:
                same = [one for one in known if one["schema"] == body["schema"]]
                if not same and versions:
                    ids = [one["id"] for one in self.schemas if one["schema"] == body["schema"]]
                    number = ids[0] if ids else len({one["id"] for one in self.schemas}) + 1
                    made = {"subject": subject, "version": len(known) + 1, "id": number, "guid": str(uuid.uuid4())}
                    same = [{**body, **made}]
                    self.schemas += same
                found = same
            case "GET", ["schemas", "types"]:
                return 200, ["AVRO", "JSON", "PROTOBUF"]
            case "GET", ["schemas", "ids", number]:
                found = [one for one in known if str(one["id"]) == number]
            case "GET", ["schemas", "guids", guid]:
                found = [one for one in known if one["guid"] == guid]
            case "GET", ["subjects", _, "versions", "latest"]:
                found = known[-1:]
            case "GET", ["subjects", _, "versions", version]:
                found = [one for one in known if str(one["version"]) == version]
            case _:
                return 404, {"error_code": 404, "message": "HTTP 404 Not Found"}
        return (200, found[0]) if found else (404, {"error_code": 40403, "message": "Schema not found"})


@contextmanager
def schema_server(tls: ssl.SSLContext | None = None) -> Iterator[SchemaServer]:
    """One on a port of its own."""
    server = SchemaServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or b"{}")
            parts = urlsplit(self.path)
            server.asked.append(parts.path)
            wanted = "Basic " + base64.b64encode(server.login.encode()).decode()
            if server.status == 0:
                self.close_connection = True
                return
            status, found = server.answer(self.command, [unquote(one) for one in parts.path[1:].split("/")], body)
            if server.login and self.headers.get("authorization") != wanted:
                status, found = 401, {"error_code": 401, "message": "Unauthorized"}
            if server.status is not None:
                status, found = server.status, {"error_code": server.status * 100, "message": "away"}
            if self.cannot_serialise(parts.query):
                status, found = 500, {"error_code": 0, "message": "Syntax error"}
            if parse_qs(parts.query).get("subject") == ["forbidden-value"]:
                status, found = 403, {"error_code": 40301, "message": "User is denied operation Read on subject"}
            told = json.dumps(found).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(told)))
            self.end_headers()
            self.wfile.write(told)

        do_GET = do_POST = _answer  # noqa: N815

        def cannot_serialise(self, query: str) -> bool:
            return not server.serialises and "format=serialized" in query

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listening.daemon_threads = True
    if tls is not None:
        listening.socket = tls.wrap_socket(listening.socket, server_side=True)
    server.url = f"{'https' if tls else 'http'}://127.0.0.1:{listening.server_port}"
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        listening.shutdown()
        listening.server_close()
        thread.join()
