"""Write a record with a header name that is not UTF-8: confluent-kafka refuses to, librdkafka itself does not.

https://github.com/confluentinc/librdkafka/blob/master/src/rdkafka.h (rd_kafka_producev, rd_kafka_vtype_t)
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import confluent_kafka

NAME = b"\xff\xfe"

_TOPIC, _PARTITION, _VALUE, _COPY, _HEADERS, _END = 1, 3, 4, 7, 10, 0
_MSG_F_COPY = 2
_PRODUCER = 0


def _library() -> Any:
    folder = Path(confluent_kafka.__file__).parents[1] / "confluent_kafka.libs"
    library = ctypes.CDLL(str(next(folder.glob("librdkafka*.so*"))))
    pointer, size, text = ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_char_p
    for name, result, arguments in (
        ("rd_kafka_conf_new", pointer, []),
        ("rd_kafka_conf_set", ctypes.c_int, [pointer, text, text, pointer, size]),
        ("rd_kafka_new", pointer, [ctypes.c_int, pointer, pointer, size]),
        ("rd_kafka_headers_new", pointer, [size]),
        ("rd_kafka_header_add", ctypes.c_int, [pointer, text, size, text, size]),
        ("rd_kafka_flush", ctypes.c_int, [pointer, ctypes.c_int]),
        ("rd_kafka_destroy", None, [pointer]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def write_bad_header(bootstrap_servers: str, topic: str, value: bytes, partition: int = 0) -> None:
    """One record with a header of this name."""
    library, integer = _library(), ctypes.c_int
    settings = library.rd_kafka_conf_new()
    assert library.rd_kafka_conf_set(settings, b"bootstrap.servers", bootstrap_servers.encode(), None, 0) == 0
    producer = library.rd_kafka_new(_PRODUCER, settings, None, 0)
    headers = library.rd_kafka_headers_new(1)
    assert library.rd_kafka_header_add(headers, NAME, len(NAME), b"v", 1) == 0
    # fmt: off
    failed = library.rd_kafka_producev(
        ctypes.c_void_p(producer),
        integer(_TOPIC), ctypes.c_char_p(topic.encode()),
        integer(_PARTITION), integer(partition),
        integer(_VALUE), ctypes.c_char_p(value), ctypes.c_size_t(len(value)),
        integer(_COPY), integer(_MSG_F_COPY),
        integer(_HEADERS), ctypes.c_void_p(headers),
        integer(_END),
    )
    # fmt: on
    assert failed == 0
    assert library.rd_kafka_flush(producer, 10_000) == 0
    library.rd_kafka_destroy(producer)
