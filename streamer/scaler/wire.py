"""The messages of KEDA's external scaler and of gRPC's health service, made from a description of their fields.

The names and numbers are the wire's: KEDA's are in its `externalscaler.proto`, the others in gRPC's `health.proto`.
"""

from __future__ import annotations

from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory  # type: ignore[import-untyped]

SCALER: Final = "externalscaler"
HEALTH: Final = "grpc.health.v1"
SERVING: Final = 1

# By package and message, the fields by name: a number, and a type, which begins with * where it is repeated. A map of
# texts is `map`.
_MESSAGES: Final[dict[str, dict[str, dict[str, tuple[int, str]]]]] = {
    SCALER: {
        "ScaledObjectRef": {"name": (1, "string"), "namespace": (2, "string"), "scalerMetadata": (3, "map")},
        "IsActiveResponse": {"result": (1, "bool")},
        "MetricSpec": {"metricName": (1, "string"), "targetSize": (2, "int64"), "targetSizeFloat": (3, "double")},
        "GetMetricSpecResponse": {"metricSpecs": (1, "*MetricSpec")},
        "GetMetricsRequest": {"scaledObjectRef": (1, "ScaledObjectRef"), "metricName": (2, "string")},
        "MetricValue": {"metricName": (1, "string"), "metricValue": (2, "int64"), "metricValueFloat": (3, "double")},
        "GetMetricsResponse": {"metricValues": (1, "*MetricValue")},
    },
    # The answer's status is an enum, which travels as a number.
    HEALTH: {"HealthCheckRequest": {"service": (1, "string")}, "HealthCheckResponse": {"status": (1, "int32")}},
}


def _made() -> dict[str, Any]:
    field_type = descriptor_pb2.FieldDescriptorProto
    pool = descriptor_pool.DescriptorPool()
    for package, messages in _MESSAGES.items():
        file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
        for name, fields in messages.items():
            message = file.message_type.add(name=name)
            for field, (number, kind) in fields.items():
                if kind == "map":
                    entry = message.nested_type.add(name=f"{field[0].upper()}{field[1:]}Entry")
                    entry.options.map_entry = True
                    for index, part in enumerate(("key", "value"), 1):
                        entry.field.add(name=part, number=index, label=1, type=field_type.TYPE_STRING)
                    kind = f"*{name}.{entry.name}"
                made = message.field.add(name=field, number=number)
                made.label = field_type.LABEL_REPEATED if kind.startswith("*") else field_type.LABEL_OPTIONAL
                plain = kind.lstrip("*")
                if plain[0].isupper():
                    made.type, made.type_name = field_type.TYPE_MESSAGE, f".{package}.{plain}"
                else:
                    made.type = field_type.Type.Value(f"TYPE_{plain.upper()}")
        pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}"))
        for package, messages in _MESSAGES.items()
        for name in messages
    }


_CLASSES: Final = _made()
ScaledObjectRef = _CLASSES["ScaledObjectRef"]
IsActiveResponse = _CLASSES["IsActiveResponse"]
GetMetricSpecResponse = _CLASSES["GetMetricSpecResponse"]
GetMetricsRequest = _CLASSES["GetMetricsRequest"]
GetMetricsResponse = _CLASSES["GetMetricsResponse"]
HealthCheckRequest = _CLASSES["HealthCheckRequest"]
HealthCheckResponse = _CLASSES["HealthCheckResponse"]
