from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from streamer.errors import ModelError
from streamer.inference.models.hub import snapshot
from streamer.inference.models.reference import Located, Null, PythonClass, resolve

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
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    snapshot = tmp_path / "models--acme--tiny" / "snapshots" / REVISION
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    assert resolve(f"acme/tiny@{REVISION}") == Located(snapshot.resolve(), "acme/tiny")


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"XDG_CACHE_HOME": "/c"},
        {"HF_HOME": "~/h", "XDG_CACHE_HOME": "/c"},
        {"HUGGINGFACE_HUB_CACHE": "$HOME/old", "HF_HOME": "/h"},
        {"HF_HUB_CACHE": "~/new", "HUGGINGFACE_HUB_CACHE": "/old"},
        {"HF_HOME": ""},
    ],
)
def test_the_local_cache_is_where_the_hubs_client_keeps_it(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which is not asked: the operators' tools are installed without it."""
    from huggingface_hub import constants

    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    theirs = runpy.run_path(constants.__file__)["HF_HUB_CACHE"]
    assert snapshot("acme/tiny", REVISION) == Path(theirs) / "models--acme--tiny" / "snapshots" / REVISION


def test_a_hub_model_that_is_not_cached_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is downloaded unless it was asked for; the message has the ways to get it, and the cache."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match="not in the local hub cache") as caught:
        resolve(f"acme/tiny@{REVISION}")
    for words in (f"`hf download acme/tiny --revision {REVISION}`", "allow_downloads = true", str(tmp_path)):
        assert words in str(caught.value)


def test_a_hub_model_needs_a_full_commit() -> None:
    """A branch can change under a running pipeline."""
    with pytest.raises(ModelError, match="40 hex digits"):
        resolve("acme/tiny@main")


def test_references_without_files() -> None:
    """These need no directory; a module is found and not imported."""
    assert resolve("builtin:null") == Null()
    assert resolve("python:antigravity:Model") == PythonClass("antigravity", "Model")
    assert resolve("python:tests.python_models:Obedient") == PythonClass("tests.python_models", "Obedient")


def test_a_module_in_the_working_directory_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a worker finds it, whatever the program's own path."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=f"no module my_own_models in {tmp_path} or among the installed"):
        resolve("python:my_own_models:Shout")
    (tmp_path / "my_own_models.py").write_text("raise RuntimeError('imported')")
    assert resolve("python:my_own_models:Shout") == PythonClass("my_own_models", "Shout")


MALFORMED = [
    ("builtin:other", "builtin:null"),
    ("python:module", "python:MODULE:CLASS"),
    ("python:my_models.Shout", "python:my_models:Shout"),
    ("python:my_models.py:Shout", "python:my_models:Shout"),
    ("python:models/mine.py:Shout", "python:mine:Shout"),
    ("package:not_installed_anywhere/model", "not installed"),
    ("package:streamer/demo/no-such", "no directory 'demo/no-such'"),
    ("/no/such/directory", "not a directory here"),
    ("/such/directory", "nor is /such; a model of the hub is named with its commit, as such/directory@REVISION"),
    ("acme/tiny", "acme/tiny@REVISION"),
    ("acme/tiny@main", "40 hex digits"),
    ("acme/tiny@0123abc", "40 hex digits"),
    (f"tiny@{REVISION}", f"org/tiny@{REVISION}"),
    (f"https://hub.example/acme/tiny/tree/{REVISION}", f"is named acme/tiny@{REVISION}"),
    ("s3://bucket/model", "copy the files to a directory"),
    ("hf:acme/tiny", "hf: is not a model reference"),
    ("models/tiny.gguf", "give the directory with config.json and *.safetensors, models"),
    ("model.safetensors", "give the directory with config.json"),
    ("model.onnx", "give the directory with config.json"),
]


@pytest.mark.parametrize(("reference", "words"), MALFORMED)
def test_a_wrong_reference_is_told_how_to_correct_it(reference: str, words: str) -> None:
    """Each message names the reference and what it should be."""
    with pytest.raises(ModelError) as caught:
        resolve(reference)
    assert words in str(caught.value)
    assert "secret" not in str(caught.value)


def test_wrong_references_are_told_before_any_library_is_imported() -> None:
    """Neither what computes nor the hub's client; all of them together take no time to speak of."""
    heavy = ["torch", "transformers", "tokenizers", "numpy", "huggingface_hub", "confluent_kafka"]
    code = (
        "import sys\n"
        "from streamer.errors import ModelError\n"
        "from streamer.inference.models.presence import refuse_early\n"
        f"for reference in {[reference for reference, _ in MALFORMED]!r}:\n"
        "    try: refuse_early(reference)\n"
        "    except ModelError: continue\n"
        "    print('not refused:', reference)\n"
        f"print([name for name in {heavy!r} if name in sys.modules])\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert ended.stdout.strip() == "[]"


def test_what_is_there_instead_of_a_directory_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file, another case, a space too many, another working directory, a home that does not exist."""
    (tmp_path / "Sentiment").mkdir()
    (tmp_path / "Sentiment" / "model.safetensors").touch()
    monkeypatch.chdir(tmp_path)
    told = {
        str(tmp_path / "Sentiment" / "model.safetensors"): f"but a file: give the directory that holds it, {tmp_path}",
        str(tmp_path / "sentiment"): f"did you mean {tmp_path / 'Sentiment'}?",
        f"{tmp_path / 'Sentiment'} ": "begins or ends with a space",
        "models": f"is not a directory in {tmp_path}",
        "~nobody-of-this-name/model": "no such user",
    }
    for given, words in told.items():
        with pytest.raises(ModelError) as caught:
            resolve(given)
        assert words in str(caught.value)
