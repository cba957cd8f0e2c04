"""Models of the hub, fetched by its own client from a hub on loopback."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from streamer.cli import main
from streamer.config.load import load
from streamer.demo import model_directory
from streamer.errors import DependencyError, ExitCode, ModelError
from streamer.inference.models import hub as hub_of_streamer
from streamer.inference.models.safety import used_files
from streamer.local.ports import free_ports
from tests.hub_server import COMMIT, REPOSITORY, TOKEN, Hub, serve

ROOT = Path(__file__).parents[2]
REFERENCE = f"{REPOSITORY}@{COMMIT}"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with the shipped micro model and what must not be fetched beside it, and empty caches of our own."""
    directory = shutil.copytree(model_directory(), tmp_path / "repository")
    for name in ("pytorch_model.bin", "modeling_own.py", "onnx/model.onnx", "checkpoint-5/model.safetensors"):
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_bytes(b"not to be fetched")
    with serve(directory) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
        for name in ("HF_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        yield hub


def fetch() -> list[tuple[int, int]]:
    told: list[tuple[int, int]] = []
    hub_of_streamer.fetch(REPOSITORY, COMMIT, lambda done, total: told.append((done, total)))
    return told


def test_what_is_fetched_is_what_is_loaded_and_only_once(hub: Hub) -> None:
    """No pickle, no code, no other format; a second process asks nothing, and one that comes meanwhile waits."""
    threads = [threading.Thread(target=fetch) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    snapshot = hub_of_streamer.cached(REPOSITORY, COMMIT)
    assert sorted(set(hub.fetched)) == used_files(snapshot) == used_files(model_directory())
    assert hub.downloads("model.safetensors") == 1
    hub.requests.clear()
    assert fetch() == []
    assert not hub.requests
    (snapshot / "config.json").resolve().unlink()  # somebody cleaned the cache
    told = fetch()
    assert hub.downloads("config.json") == 1
    assert all(0 < done <= total for done, total in told)


def test_infer_downloads_when_it_may(hub: Hub, tmp_path: Path) -> None:
    """Without the flag nothing is asked of the hub. The token is sent to it, and written nowhere."""

    def infer(*more: str) -> subprocess.CompletedProcess[str]:
        arguments = ["--task", "text-classification", "--model", REFERENCE, "--text", *more]
        return subprocess.run(
            [sys.executable, "-m", "streamer", "infer", *arguments],
            input="what a fine day\n",
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "HF_TOKEN": TOKEN},
            timeout=120,
        )

    refused = infer()
    assert refused.returncode == 3
    assert "--allow-downloads" in refused.stderr
    assert not hub.requests
    done = infer("--allow-downloads", "--verbose")
    assert done.returncode == 0, done.stderr
    assert '"label":"positive"' in done.stdout
    assert "downloaded acme/sentiment@" in done.stderr
    assert hub.tokens == {f"Bearer {TOKEN}"}
    assert TOKEN not in done.stderr + done.stdout


def test_init_and_inspect_download_when_they_may(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And a configuration that was written so lets runs do it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    init = ["init", "--model", REFERENCE, "--input", "reviews"]
    assert main(init) == ExitCode.CONFIGURATION
    assert main([*init, "--allow-downloads"]) == ExitCode.DONE
    pipeline = load().pipelines["sentiment"]
    assert (pipeline.model, pipeline.allow_downloads) == (REFERENCE, True)
    capsys.readouterr()
    assert main(["model", "inspect", REFERENCE, "--no-load", "--json"]) == ExitCode.DONE
    found = json.loads(capsys.readouterr().out)
    assert (found["kind"], found["task"]) == ("hub", "text-classification")


@pytest.mark.parametrize(
    ("refusal", "kind", "words"),
    [
        ((401, ""), ModelError, "without a token that may (401): set HF_TOKEN"),
        ((404, "RepoNotFound"), ModelError, "has no model acme/sentiment that this machine may see"),
        ((404, "RevisionNotFound"), ModelError, "not that commit"),
        ((403, "GatedRepo"), ModelError, "it is gated: accept its terms at http"),
        ((503, ""), DependencyError, "answered 503"),
    ],
)
def test_what_the_hub_refuses_is_a_sentence(
    hub: Hub, refusal: tuple[int, str], kind: type[Exception], words: str
) -> None:
    """By whose fault it is: a restart may help after a failure of the hub."""
    hub.refusal = refusal
    with pytest.raises(kind) as caught:
        fetch()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_hub_that_is_silent_is_left(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its client would wait for ever."""
    hub.silent_s = 600
    monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "2")
    with pytest.raises(DependencyError, match="sent nothing for 2 s"):
        fetch()


def test_an_offline_machine_is_told_what_helps(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mirror, or a copy of the directory."""
    (port,) = free_ports(1)
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
    with pytest.raises(DependencyError, match=r"can't be reached.*HF_ENDPOINT.*hf download"):
        fetch()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match=r"HF_HUB_OFFLINE.*unset it, or set HF_ENDPOINT"):
        fetch()


def test_another_commit_than_was_asked_for_is_not_served(hub: Hub) -> None:
    """Whatever a mirror answers."""
    hub.sha = "f" * 40
    with pytest.raises(ModelError, match="another commit"):
        fetch()
