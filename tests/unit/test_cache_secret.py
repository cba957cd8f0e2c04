"""The file by which a fleet knows its own values: made once, whole and secret, or refused by its name."""

from __future__ import annotations

import multiprocessing
import stat
from pathlib import Path
from typing import Any

import msgspec
import pytest

from streamer.app.parts import make_cache
from streamer.cache.secret import NoKeyError, key_path, look_at, secret_of
from streamer.config.load import Config
from streamer.core.pipeline.protocol import CacheAnswered
from streamer.errors import ConfigurationError


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path / "streamer" / "cache.key"


def test_the_first_start_makes_it_for_its_owner_alone(state: Path) -> None:
    """The next ones read it; nothing else is left in the folder."""
    made = secret_of("")
    assert len(made) == 64 and secret_of("") == made
    assert stat.S_IMODE(state.stat().st_mode) == 0o600
    assert [file.name for file in state.parent.iterdir()] == [state.name]


def test_without_xdg_it_lies_below_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the other state of this user's programs."""
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert key_path("") == tmp_path / ".local/state/streamer/cache.key"


def test_a_named_file_is_made_too(tmp_path: Path) -> None:
    """A path is where the key shall be."""
    file = tmp_path / "below" / "key"
    assert secret_of(str(file)) == secret_of(str(file)) != b""
    assert file.exists()


def test_a_copy_on_another_host_is_the_same_secret(tmp_path: Path) -> None:
    """Also with or without the line's end that an editor leaves."""
    one, other = tmp_path / "one", tmp_path / "other"
    first = secret_of(str(one))
    other.write_text(one.read_text().strip())
    assert secret_of(str(other)) == first
    other.write_text("k" * 32)
    assert secret_of(str(other)) != first


def test_none_is_no_secret(state: Path) -> None:
    """And makes no file."""
    assert secret_of("none") == b"" and not state.exists()


def _start(path: str, ready: object, told: object) -> None:
    ready.wait()  # type: ignore[attr-defined]
    told.put(secret_of(path))  # type: ignore[attr-defined]


def test_processes_that_start_at_once_have_one_secret(tmp_path: Path) -> None:
    """Whoever makes the file, all read the same, and none reads half of it."""
    context = multiprocessing.get_context("fork")
    told = context.Queue()
    for number in range(5):
        ready = context.Barrier(8)
        processes = [
            context.Process(target=_start, args=(str(tmp_path / f"key-{number}"), ready, told)) for _ in range(8)
        ]
        for process in processes:
            process.start()
        secrets = {told.get(timeout=30) for _ in processes}
        for process in processes:
            process.join()
        assert len(secrets) == 1
    assert len(list(tmp_path.iterdir())) == 5


@pytest.mark.parametrize("content", [b"", b"canary" * 5, b"canary" * 1000])
def test_a_file_that_is_no_key_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    """The message names field and file, and quotes nothing of it."""
    file = tmp_path / "key"
    file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"cache\.key_file: .*key is too (short|long)") as caught:
        secret_of(str(file))
    assert "canary" not in str(caught.value)
    assert look_at(str(file)) == (str(caught.value), True, False)


def test_a_file_that_can_not_be_read_or_made_is_refused_by_name(tmp_path: Path) -> None:
    """The doctor finds the same before the start, without making anything."""
    (tmp_path / "file").write_text("x")
    for path in (tmp_path, tmp_path / "file" / "key"):
        with pytest.raises(ConfigurationError, match=rf"cache\.key_file: {path}"):
            secret_of(str(path))
        assert look_at(str(path))[0] and look_at(str(path))[1]


def test_the_doctor_makes_no_file_and_sees_who_may_read_it(state: Path) -> None:
    """It changes nothing."""
    assert look_at("") == ("", False, False) and not state.exists()
    secret_of("")
    assert look_at("") == ("", False, False)
    state.chmod(0o644)
    assert look_at("") == ("", False, True)


def test_without_a_default_file_answers_are_not_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A home that can't be written to, as in a container, ends no start; a file that is named there does."""
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    with pytest.raises(NoKeyError, match="name a file"):
        secret_of("")
    problem, ends, _ = look_at("")
    assert problem and not ends
    posted: list[Any] = []
    fields = {"pipelines": {"p": {"task": "embedding", "model": "m", "input": ["a"], "output": "b"}}}
    for key_file, shared in (("", True), (str(tmp_path / "file" / "key"), False)):
        config = msgspec.convert({**fields, "cache": {"url": "redis://127.0.0.1:1/0", "key_file": key_file}}, Config)
        cache = make_cache(config, "p", posted.append)
        cache.look_up(1, [b"k"])
        cache.close(10)
        (one,) = posted
        assert (one == CacheAnswered(1, [None])) is shared
        posted.clear()
    assert "answers are not shared through Redis: cache.key_file: " in caplog.text
