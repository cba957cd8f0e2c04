"""The names of the record headers that we read and write: one place, since they are contracts."""

from __future__ import annotations

CONTENT_TYPE = "content-type"
TRACEPARENT = "traceparent"

CE_SPECVERSION = "ce_specversion"
CE_ID = "ce_id"
CE_SOURCE = "ce_source"
CE_TYPE = "ce_type"

# What Kafka Connect writes on its dead letters, and Kafka UIs show.
CONNECT_PREFIX = "__connect.errors."
CONNECT_TOPIC = CONNECT_PREFIX + "topic"
CONNECT_PARTITION = CONNECT_PREFIX + "partition"
CONNECT_OFFSET = CONNECT_PREFIX + "offset"
CONNECT_STAGE = CONNECT_PREFIX + "stage"
CONNECT_CLASS = CONNECT_PREFIX + "class.name"
CONNECT_EXCEPTION = CONNECT_PREFIX + "exception.class.name"
CONNECT_MESSAGE = CONNECT_PREFIX + "exception.message"

ERROR_PREFIX = "streamer.error."
ERROR_CODE = ERROR_PREFIX + "code"
ERROR_CLASS = ERROR_PREFIX + "class"
ERROR_ATTEMPTS = ERROR_PREFIX + "attempts"
ERROR_PIPELINE = ERROR_PREFIX + "pipeline"
ERROR_MODEL = ERROR_PREFIX + "model"
ERROR_TIME = ERROR_PREFIX + "time"
# Each says "omitted" where that part of the record did not fit the dead-letter topic.
ERROR_VALUE = ERROR_PREFIX + "value"
ERROR_VALUE_SHA256 = ERROR_PREFIX + "value.sha256"
ERROR_VALUE_SIZE = ERROR_PREFIX + "value.size"
ERROR_HEADERS = ERROR_PREFIX + "headers"
ERROR_KEY = ERROR_PREFIX + "key"

REPLAY_ID = "streamer.replay.id"
REPLAY_ATTEMPTS = "streamer.replay.attempts"
REPLAY_JOB = "streamer.replay.job"
REPLAY_PIPELINE = "streamer.replay.pipeline"

ORIGIN_TOPIC = "streamer.origin.topic"
ORIGIN_PARTITION = "streamer.origin.partition"
ORIGIN_OFFSET = "streamer.origin.offset"
