from __future__ import annotations

from pathlib import Path

import pytest

from streamer.errors import ModelError
from streamer.inference.reference import Located, Null, PythonClass, resolve

REVISION = "0123456789abcdef0123456789abcdef01234567"


def test_a_directory_is_found_and_named_by_its_last_part(tmp_path: Path) -> None:
    """Results name the model's directory, not the path to it."""
    (tmp_path / "sentiment").mkdir()
    assert resolve(str(tmp_path / "sentiment")) == Located(tmp_path / "sentiment", "sentiment")


def test_a_package_is_found_without_importing_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package's code does not run."""
    package = tmp_path / "shipped_model"
    (package / "weights").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    assert resolve("package:shipped_model/weights") == Located(package / "weights", "shipped_model/weights")


def test_a_package_reference_cannot_leave_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`..` in a reference is refused."""
    (tmp_path / "other_model").mkdir()
    (tmp_path / "other_model" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModelError, match="no directory"):
        resolve("package:other_model/..")


def test_a_hub_model_comes_from_the_local_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit that the cache holds is served without a network."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    snapshot = tmp_path / "models--acme--tiny" / "snapshots" / REVISION
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    assert resolve(f"acme/tiny@{REVISION}") == Located(snapshot.resolve(), "acme/tiny")


@pytest.mark.parametrize(
    ("downloads", "offline", "words"),
    [
        (False, True, f"fetch it with `hf download acme/tiny --revision {REVISION}`"),
        (True, True, "HF_HUB_OFFLINE forbids"),
    ],
)
def test_a_hub_model_that_is_not_cached_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, downloads: bool, offline: bool, words: str
) -> None:
    """Nothing is downloaded unless it was asked for; the message has the command that fetches it, and the cache."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    with pytest.raises(ModelError, match="not in the local hub cache") as caught:
        resolve(f"acme/tiny@{REVISION}", downloads=downloads)
    assert words in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_hub_model_needs_a_full_commit() -> None:
    """A branch can change under a running pipeline."""
    with pytest.raises(ModelError, match="40 hex digits"):
        resolve("acme/tiny@main")


@pytest.mark.parametrize(
    ("reference", "expected"),
    [("builtin:null", Null()), ("python:package.module:Model", PythonClass("package.module", "Model"))],
)
def test_references_without_files(reference: str, expected: object) -> None:
    """These need no directory."""
    assert resolve(reference) == expected


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("builtin:other", "builtin:null"),
        ("python:module", "python:MODULE:CLASS"),
        ("package:not_installed_anywhere/model", "not installed"),
        ("/no/such/directory", "no directory here"),
        ("acme/tiny", "acme/tiny@REVISION"),
    ],
)
def test_a_wrong_reference_is_told_how_to_mend_it(reference: str, words: str) -> None:
    """Each message names the reference and what it should be."""
    with pytest.raises(ModelError) as caught:
        resolve(reference)
    assert words in str(caught.value)


def test_what_is_there_instead_of_a_directory_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file, another case, a space too many, another working directory, a home that does not exist."""
    (tmp_path / "Sentiment").mkdir()
    (tmp_path / "Sentiment" / "model.safetensors").touch()
    monkeypatch.chdir(tmp_path)
    told = {
        str(tmp_path / "Sentiment" / "model.safetensors"): f"but a file: give the directory that holds it, {tmp_path}",
        str(tmp_path / "sentiment"): f"did you mean {tmp_path / 'Sentiment'}?",
        f"{tmp_path / 'Sentiment'} ": "begins or ends with a space",
        "models": f"is no directory in {tmp_path}",
        "~nobody-of-this-name/model": "no such user",
    }
    for given, words in told.items():
        with pytest.raises(ModelError) as caught:
            resolve(given)
        assert words in str(caught.value)
