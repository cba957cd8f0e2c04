"""The schemas in schemas/ say what the code does: all that is written validates, and what validates is read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, FormatChecker
from referencing import Registry, Resource

from streamer.core import headers as names
from streamer.core.deadletters.audit import Audit
from streamer.core.deadletters.envelope import wrap
from streamer.core.deadletters.selection import Selection
from streamer.core.deadletters.state import Claim, Job, State
from streamer.core.events.codec import Codec, Limits
from streamer.core.measures import PROJECTIONS, pack
from streamer.core.output import Output
from streamer.core.pipeline.protocol import ModelCard, Run
from streamer.core.record import Answer, BareRecord, Headers, MicroBatch, Segment, TextEvent
from streamer.core.report import (
    BOUNDS,
    CONFIDENCE_BINS,
    MAX_LABELS,
    VERSION,
    Embedding,
    Event,
    Generated,
    Histogram,
    Likelihood,
    Origin,
    Report,
    ReportBuilder,
    event_report,
)
from streamer.core.report.scripts import SCRIPTS
from streamer.core.results.encoder import Encoder, OutputLimits
from streamer.errors import Code, DataFailure
from streamer.inference.tasks.families import TASKS
from tests.records import FakeRecord

SCHEMAS = Path(__file__).parents[2] / "schemas"
OURS = [
    "event",
    "result",
    "codes",
    "dead-letter-headers",
    "report",
    "dlq-state",
    "dlq-job",
    "dlq-claim",
    "audit",
    "health",
    "feedback",
    *sorted(f"outputs/{file.stem}" for file in (SCHEMAS / "outputs").glob("*.json")),
]
CHANNELS = ["input", "output", "deadLetter", "spans", "reports", "deadLetterState", "audit", "health", "feedback"]
CARD = ModelCard("sentiment", "abc123", "text-classification", "float32", "torch")
NOW_MS = 1_700_000_000_500


def schema(name: str) -> dict[str, Any]:
    loaded = json.loads((SCHEMAS / f"{name}.json").read_text())
    assert isinstance(loaded, dict)
    return loaded


REGISTRY: Registry[Any] = Registry().with_resources(
    (body["$id"], Resource.from_contents(body)) for body in map(schema, OURS)
)
ASYNCAPI = yaml.safe_load((SCHEMAS / "asyncapi.yaml").read_text())


def validator(body: dict[str, Any]) -> Draft202012Validator:
    return Draft202012Validator(body, registry=REGISTRY, format_checker=FormatChecker())


def text_headers(headers: Headers) -> dict[str, str]:
    return {name: (value or b"").decode() for name, value in headers}


@pytest.mark.parametrize("name", OURS)
def test_each_schema_is_sound_and_its_examples_fit(name: str) -> None:
    """A schema is valid 2020-12, named by its file, described, and its examples validate."""
    body = schema(name)
    Draft202012Validator.check_schema(body)
    assert body["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert body["$id"].endswith(f"/schemas/{name}.json")
    assert body["title"] and body["description"] and body["examples"]
    for example in body["examples"]:
        validator(body).validate(example)


def test_each_task_has_an_output_schema() -> None:
    """And no schema is left of a task that is not there."""
    assert {name for name in OURS if name.startswith("outputs/")} == {f"outputs/{task}" for task in TASKS}


def test_the_codes_are_those_of_the_code() -> None:
    """codes.json lists each code once, with its meaning, and no other."""
    listed = schema("codes")["oneOf"]
    assert [entry["const"] for entry in listed] == [code.value for code in Code]
    assert all(entry["description"].endswith(".") for entry in listed)


def test_event_fields_agree() -> None:
    """The event schema and the type that is decoded have the same fields, required ones and bounds."""
    body = schema("event")
    fields = msgspec.structs.fields(TextEvent)
    assert set(body["properties"]) == {field.name for field in fields}
    assert body["required"] == [field.name for field in fields if field.required]
    decoded = msgspec.json.schema(TextEvent)["$defs"]["TextEvent"]["properties"]
    assert decoded["text"]["minLength"] == body["properties"]["text"]["minLength"]
    string, _, _ = body["properties"]["id"]["anyOf"]
    (decoded_string,) = [option for option in decoded["id"]["anyOf"] if option["type"] == "string"]
    assert decoded_string == string
    assert f"{Limits().max_metadata_bytes:,} bytes" in body["properties"]["metadata"]["description"]


def test_report_fields_agree() -> None:
    """The report schema and the type that is encoded have the same fields, required ones and bounds."""
    body = schema("report")
    fields = msgspec.structs.fields(Report)
    assert list(body["properties"]) == [field.name for field in fields]
    assert body["required"] == [field.name for field in fields if field.required]
    for name, type_ in (("embedding", Embedding), ("generated", Generated), ("likelihood", Likelihood)):
        assert list(body["$defs"][name]["properties"]) == [field.name for field in msgspec.structs.fields(type_)]
    assert body["properties"]["scripts"]["propertyNames"]["enum"] == list(SCRIPTS)
    histogram = body["$defs"]["histogram"]
    assert list(histogram["properties"]) == [field.name for field in msgspec.structs.fields(Histogram)]
    bound = histogram["properties"]["counts"]["items"]["prefixItems"][0]
    assert (bound["minimum"], bound["maximum"]) == (BOUNDS[0], BOUNDS[-1])
    assert body["properties"]["version"]["enum"][0] == VERSION
    assert body["properties"]["labels"]["maxProperties"] == MAX_LABELS
    assert body["properties"]["confidence"]["maxItems"] == CONFIDENCE_BINS


@pytest.mark.parametrize(
    ("name", "type_"), [("dlq-state", State), ("dlq-job", Job), ("dlq-claim", Claim), ("audit", Audit)]
)
def test_operator_records_agree(name: str, type_: type[msgspec.Struct]) -> None:
    """The schemas of what `streamer dlq` writes have the types' fields and required ones; examples are read."""
    body = schema(name)
    fields = msgspec.structs.fields(type_)
    assert set(body["properties"]) == {field.name for field in fields}
    assert set(body["required"]) == {field.name for field in fields if field.required}
    for example in body["examples"]:
        read = msgspec.json.decode(json.dumps(example), type=type_)
        written = json.loads(msgspec.json.encode(read))
        validator(body).validate(written)
        assert written == example


def test_a_jobs_selection_agrees() -> None:
    """Each field of the filter is described."""
    described = schema("dlq-job")["properties"]["selection"]["properties"]
    assert set(described) == set(Selection.__slots__)


def test_dead_letter_header_names_agree() -> None:
    """The schema lists the header names of the code and no other."""
    ours = {
        value
        for name, value in vars(names).items()
        if name.startswith(("CONNECT_", "ERROR_")) and not name.endswith("_PREFIX")
    }
    assert set(schema("dead-letter-headers")["properties"]) == ours


optional: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.booleans(), st.integers(), st.just(1.5), st.text(max_size=3), st.sampled_from(([], {}))
)
events = st.fixed_dictionaries(
    {},
    optional={
        "text": st.text(max_size=3) | optional,
        "id": st.text(max_size=300) | st.integers(-(2**65), 2**65) | optional,
        "text_pair": optional,
        "params": st.dictionaries(st.text(max_size=3), st.integers()) | optional,
        "metadata": st.dictionaries(st.text(max_size=3), st.text()) | optional,
        "unknown": optional,
    },
)


@pytest.mark.case(24)
@given(events | optional)
def test_what_validates_is_read_and_the_rest_is_refused(body: Any) -> None:
    """The event schema accepts exactly what the codec does."""
    segment = Segment("in", 0, 1, [FakeRecord(json.dumps(body).encode())])
    Codec("mine").decode(segment)
    assert validator(schema("event")).is_valid(body) == (segment.events[0] is not None)


def outputs_of(records: list[FakeRecord], answer: Answer, result_bytes: int = 1_000_000) -> tuple[list[Output], Report]:
    segment = Segment("in", 0, 1, list(records))
    Codec("mine").decode(segment)
    segment.outcomes = [outcome or answer for outcome in segment.outcomes]
    run = Run(MicroBatch(1, [segment], 5, 6, 0), segment, 0, len(records))
    encoder = Encoder(
        pipeline="mine",
        task="text-classification",
        card=CARD,
        output_topic="out",
        dead_letter_topic="dlq",
        limits=OutputLimits(result_bytes, 1_000_000),
    )
    report = ReportBuilder(pipeline="mine", task="text-classification", card=CARD)
    outputs = encoder.encode(run, NOW_MS)
    report.add(run, NOW_MS)
    return outputs, report.build(NOW_MS)


RECORDS = [
    FakeRecord(b'{"text": "a", "id": 5, "metadata": {"a": null}}', key=b"k"),
    FakeRecord(b'{"text": "a"}', offset=1, timestamp_ms=None),
    FakeRecord(None, offset=2),
    FakeRecord(b"", offset=3),
    FakeRecord(b"nonsense", offset=4),
]


def test_results_validate() -> None:
    """Results, their headers and their output validate."""
    outputs, _ = outputs_of(RECORDS, Answer(b'{"label":"POSITIVE","score":0.5}'))
    results = [output for output in outputs if output[0] == "out"]
    assert len(results) == 2
    fields: set[str] = set()
    for _, _, _, value, headers in results:
        assert value is not None
        result = json.loads(value)
        fields |= set(result)
        validator(schema("result")).validate(result)
        validator(schema("outputs/text-classification")).validate(result["output"])
        validator(ASYNCAPI["components"]["schemas"]["resultHeaders"]).validate(text_headers(headers))
    assert fields == set(schema("result")["properties"])


@pytest.mark.parametrize(
    "answer",
    [
        Answer(b'{"label":"POSITIVE","score":0.5}', repeated=True, measures=pack(3, 0, 19)),
        Answer(b'{"vector":[1.0]}'),
        Answer(b'{"vector":[1.0]}', measures=pack(1) + bytes(PROJECTIONS)),
        Answer(b'{"text":"a","finish_reason":"stop","completion_tokens":3}', measures=pack(0, repetition=1)),
        Answer(b'{"log_likelihood":-3.5,"tokens":3}'),
    ],
)
def test_reports_validate(answer: Answer) -> None:
    """Reports validate, with labels and without, and where nothing was published."""
    for records in (RECORDS, RECORDS[2:], []):
        report = outputs_of(records, answer)[1].output("streamer.reports")
        assert report[3] is not None
        validator(schema("report")).validate(json.loads(report[3]))


@pytest.mark.parametrize("event", [Event("started", {"workers": "2"}), Event("ended", {}, 6, "it halted")])
def test_reports_of_events_validate(event: Event) -> None:
    """They name who wrote them, and count nothing."""
    origin = Origin("host-0", "0.9.0", "5a1f00c2d4be")
    report = event_report(pipeline="p", task="t", card=CARD, origin=origin, event=event, time_ms=NOW_MS)
    written = json.loads(report.output("streamer.reports")[3] or b"")
    validator(schema("report")).validate(written)
    assert written["member"] == "host-0" and not written["ranges"] and written["event"]["what"] == event.what


@pytest.mark.parametrize("code", Code)
@pytest.mark.parametrize("limit_bytes", [1_000_000, 2_500, 1_600])
@pytest.mark.parametrize("card", [CARD, None])
def test_dead_letters_validate(code: Code, limit_bytes: int, card: ModelCard | None) -> None:
    """The headers that we add validate for every code, cut or not."""
    for record in (
        FakeRecord(b"x" * 2_000, key=b"k" * 1_000, headers=[("mine", b"\xff" * 1_000)]),
        BareRecord(FakeRecord(None)),
    ):
        output = wrap(
            record,
            DataFailure(code, "é\n" * 2_000, "E" * 1_000),
            pipeline="mine",
            card=card,
            dead_letter_topic="dlq",
            limit_bytes=limit_bytes,
            time_ms=NOW_MS,
        )
        validator(schema("dead-letter-headers")).validate(text_headers([h for h in output[4] if h[0] != "mine"]))


def refs(node: object) -> Iterator[str]:
    """All references below a node."""
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for child in node.values():
            yield from refs(child)
    elif isinstance(node, list):
        for child in node:
            yield from refs(child)


def test_the_topics_are_described() -> None:
    """The AsyncAPI document has version 3, its channels, an operation for each, and references that resolve."""
    assert ASYNCAPI["asyncapi"] == "3.0.0"
    assert set(ASYNCAPI["channels"]) == set(CHANNELS)
    used = {operation["channel"]["$ref"] for operation in ASYNCAPI["operations"].values()}
    assert used == {f"#/channels/{name}" for name in ASYNCAPI["channels"]}
    found = list(refs(ASYNCAPI))
    assert "event.json" in found
    for ref in found:
        file, _, pointer = ref.partition("#")
        target = json.loads((SCHEMAS / file).read_text()) if file else ASYNCAPI
        for step in pointer.split("/")[1:]:
            target = target[step]
        assert target
    for body in ASYNCAPI["components"]["schemas"].values():
        Draft202012Validator.check_schema(body)


def test_the_header_names_of_events_agree() -> None:
    """The headers that events may carry are those that the code names."""
    described = set(ASYNCAPI["components"]["schemas"]["eventHeaders"]["properties"])
    replay = {value for name, value in vars(names).items() if name.startswith(("REPLAY_", "ORIGIN_"))}
    assert described == replay | {names.CONTENT_TYPE, names.CE_SPECVERSION, names.CE_ID, names.TRACEPARENT}
