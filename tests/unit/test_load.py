"""Loading: what becomes of a row, where a job goes on, and what ends it."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from streamer.core.events.shape import Path as FieldPath
from streamer.core.events.shape import Shape
from streamer.core.output import Output
from streamer.core.record import TopicPartition
from streamer.errors import UsageError
from streamer.files.row import Fields
from streamer.files.rows import Rows, format_of
from streamer.ops import load as loading
from streamer.ops.load import BadRowError, Load, Maker, job_name

PLACE = ("t", 0)


class Topic:
    """Takes transactions; from the `dies`th on they are never made."""

    def __init__(self, dies: int = 1_000) -> None:
        self.records: list[Output] = []
        self.mark = (-1001, "")
        self.dies = dies

    def settle(self, outputs: Sequence[Output], partition: TopicPartition, mark: tuple[int, str]) -> None:
        assert partition == PLACE
        self.dies -= 1
        if not self.dies:
            raise ConnectionError
        self.records += outputs
        self.mark = mark

    @property
    def values(self) -> list[Any]:
        return [json.loads(value or b"") for _, _, _, value, _ in self.records]


def job(
    *files: Path,
    errors: Path | None = None,
    key: str = "",
    events: bool = False,
    shapes: tuple[Shape | None, ...] = (None,),
    limit: int = 1 << 20,
    **fields: Any,
) -> Load:
    paths = [str(file) for file in files]
    rows = Rows(paths, io.BytesIO(), None, Fields(**fields, whole=True))
    maker = Maker("t", Fields(**fields), events, key, shapes, limit)
    return Load(paths, [format_of(path) or "jsonl" for path in paths], rows, maker, f"{key}{fields}", errors)


def run(work: Load, topic: Topic) -> Load:
    work.begin(topic.mark)
    try:
        work.run(topic, lambda _: None, PLACE)
    finally:
        work.close()
    return work


@pytest.fixture
def numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ten events, three of which go in one transaction."""
    monkeypatch.setattr(loading, "CHUNK_ROWS", 3)
    file = tmp_path / "n.jsonl"
    file.write_text("".join(f'{{"id": {n}, "text": "t{n}"}}\n' for n in range(10)))
    return file


@pytest.mark.parametrize("dies", [1, 2, 3, 4])
def test_a_job_that_died_goes_on(numbers: Path, dies: int) -> None:
    """Each row once, wherever it was."""
    topic = Topic(dies)
    with pytest.raises(ConnectionError):
        run(job(numbers), topic)
    work = run(job(numbers), topic)
    assert [value["id"] for value in topic.values] == list(range(10))
    assert (work.before, work.written) == ((dies - 1) * 3, 10 - (dies - 1) * 3)
    assert run(job(numbers), topic).written == 0
    with numbers.open("a") as file:
        file.write('{"text": "new"}\n')
    assert run(job(numbers), topic).written == 1  # a file that grew


def test_others_are_not_mixed(numbers: Path) -> None:
    """Changed rows among those that are loaded, other options, fewer rows: refused; rows behind may change."""
    topic = Topic(dies=3)
    with pytest.raises(ConnectionError):
        run(job(numbers), topic)
    with pytest.raises(UsageError, match="first 6 rows are not those"):
        run(job(numbers, key="id"), topic)
    text = numbers.read_text()
    for other in (text.replace("t5", "x5"), text[:20], "{}\n" + text):
        numbers.write_text(other)
        with pytest.raises(UsageError, match="first 6 rows"):
            run(job(numbers), topic)
    numbers.write_text(text.replace("t6", "x6"))
    assert run(job(numbers), topic).written == 4
    topic.mark = (3, "somebody else's")
    with pytest.raises(UsageError, match="first 3 rows"):
        run(job(numbers), topic)


def test_a_bad_row_ends_it_behind_the_good_ones(numbers: Path) -> None:
    """It is named by file and line, and corrected the same job goes on with it."""
    topic, text = Topic(), numbers.read_text()
    numbers.write_text(text.replace('"t4"', "hunter2"))
    with pytest.raises(BadRowError, match=r"n.jsonl, line 5: decode.json: .* before it \(4\) are loaded") as caught:
        run(job(numbers), topic)
    assert "hunter2" not in str(caught.value)
    assert len(topic.records) == 4
    numbers.write_text(text)
    run(job(numbers), topic)
    assert [value["id"] for value in topic.values] == list(range(10))


@pytest.mark.parametrize("dies", [2, 3, 1_000])
def test_bad_rows_go_to_errors_once(numbers: Path, dies: int) -> None:
    """Also when the job dies between their lines and the transaction."""
    errors = numbers.with_name("errors.jsonl")
    numbers.write_text(numbers.read_text().replace('"t4"', "4").replace('"t8"', '""') + "\n\n")
    topic = Topic(dies)
    if dies < 1_000:
        with pytest.raises(ConnectionError):
            run(job(numbers, errors=errors), topic)
    work = run(job(numbers, errors=errors), topic)
    assert len(topic.records) == 8
    found = [json.loads(line) for line in errors.read_text().splitlines()]
    assert [(each["line"], each["error"]["code"]) for each in found] == [
        (5, "validate.text"),
        (9, "validate.empty_text"),
    ]
    assert (work.failed, work.empty) == (2, 2)
    with pytest.raises(UsageError, match="exists already"):
        run(job(numbers, errors=errors), Topic())


def test_rows_of_tables_become_events_with_keys(tmp_path: Path) -> None:
    """Or go whole, to a pipeline that reads their shape."""
    file = tmp_path / "t.csv"
    file.write_text('no,body,who\n1,"a, b",x\n2,c,\n')
    topic = Topic()
    run(job(file, events=True, text="body", id="no", keep=("who",), key="who"), topic)
    assert topic.values == [
        {"id": "1", "text": "a, b", "metadata": {"who": "x"}},
        {"id": "2", "text": "c", "metadata": {"who": ""}},
    ]
    assert [key for _, _, key, _, _ in topic.records] == [b"x", b""]
    topic = Topic()
    run(job(file, shapes=(Shape(FieldPath.of("body")),)), topic)
    assert topic.values == [{"no": "1", "body": "a, b", "who": "x"}, {"no": "2", "body": "c", "who": ""}]
    with pytest.raises(BadRowError, match=r"row 1: validate.text: \$.other is missing"):
        run(job(file, shapes=(Shape(FieldPath.of("other")),)), Topic())
    with pytest.raises(UsageError, match="no column 'gone'"):
        run(job(file, events=True, text="gone"), Topic())
    file.write_text("body\na\nb,c\n")
    with pytest.raises(BadRowError, match=r"row 2: validate.type: The row has 2 columns"):
        run(job(file, events=True, text="body"), Topic())


def test_what_the_topic_would_not_take_is_refused(tmp_path: Path) -> None:
    """A record that is too large, a row without the key, and without a pipeline what is no object."""
    file = tmp_path / "r.jsonl"
    file.write_text('{"text": "a"}\n')
    with pytest.raises(BadRowError, match=r"validate.too_large: .* t takes 100"):
        run(job(file, limit=100), Topic())
    with pytest.raises(BadRowError, match=r"line 1: validate.type: It has no user, which --key-field names"):
        run(job(file, key="user"), Topic())
    assert run(job(file, shapes=()), Topic()).written == 1
    file.write_text("[1]\n")
    with pytest.raises(BadRowError, match=r"validate.type: \$ is an array"):
        run(job(file, shapes=()), Topic())
    texts = tmp_path / "t.txt"
    texts.write_text("a\n\nb\n")
    topic = Topic()
    assert run(job(texts), topic).empty == 1
    assert topic.values == [{"text": "a"}, {"text": "b"}]


def test_a_job_is_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However their paths are written, in their order."""
    monkeypatch.chdir(tmp_path)
    assert job_name(["a", "b"]) == job_name([str(tmp_path / "a"), "./b"]) != job_name(["b", "a"])
