"""What a pipeline says of a model that a server runs, refused by field where it makes no sense."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from streamer.app.workers import worker_plan
from streamer.cli.options import loaded
from streamer.errors import ConfigurationError
from streamer.inference.parent.launch import Spawner, make_launcher

SERVED: dict[str, Any] = {
    "task": "text-generation",
    "model": "http://llm:8000/v1",
    "backend": "openai",
    "input": "in",
    "output": "out",
}


def flags(fields: dict[str, Any]) -> list[str]:
    return [f"pipelines.p.{name}={value}" for name, value in {**SERVED, **fields}.items()]


def test_the_fields_reach_the_worker(tmp_path: Path) -> None:
    """One worker, which starts without torch; the certificates' file is relative to the configuration's folder."""
    given = {"served_model": "m", "served_key_env": "KEY", "served_requests": "9", "served_fingerprint": "ignored"}
    file = tmp_path / "streamer.toml"
    file.write_text('[pipelines.p]\nserved_ca = "ca.pem"\n', encoding="utf-8")
    count, spec = worker_plan(loaded(str(file), flags(given)).pipelines["p"], "p")
    assert (count, spec.model, spec.backend) == (1, "http://llm:8000/v1", "openai")
    served = spec.served
    assert (served.model, served.key_env, served.requests, served.pinned) == ("m", "KEY", 9, False)
    assert served.ca == str(tmp_path / "ca.pem")
    launcher = make_launcher(spec)
    assert isinstance(launcher, Spawner)


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"dtype": "float16"}, "dtype", "the server decides the number format"),
        ({"device": "cuda"}, "device", "the server has the device"),
        ({"threads": "2"}, "threads", "a worker only asks the server"),
        ({"compile": "true"}, "compile", "the server runs the network"),
        ({"batch_tokens": "2"}, "batch_tokens", "the server makes the batches"),
        ({"on_overflow": "window"}, "on_overflow", "reads no windows"),
        ({"backend": "torch"}, "backend", "set openai or tei for a server, or name a model of the hub by its commit"),
        ({"backend": "tei"}, "task", "backend tei has no task 'text-generation': it has embedding, rerank"),
        ({"model": "http://user:s3cret@llm/v1"}, "model", "holds a user or a password"),
        ({"model": "http:///v1"}, "model", "no host"),
        ({"model": "http://llm:99999/v1"}, "model", "can't be read"),
        ({"model": "builtin:null"}, "model", "this is no URL"),
        ({"model": "builtin:null", "backend": "auto", "served_model": "m"}, "served_model", "set backend to openai"),
        ({"served_key_env": "sk-123"}, "served_key_env", "the name of an environment variable"),
        ({"options.num_beams": "2"}, "options.num_beams", "has no such option"),
        ({"options.temperature": "-1"}, "options.temperature", "it must be"),
    ],
)
def test_what_makes_no_sense_is_refused_by_field(fields: dict[str, Any], field: str, words: str) -> None:
    """With what to write instead; no secret is quoted."""
    with pytest.raises(ConfigurationError) as error:
        loaded("/dev/null", flags(fields))
    told = [one for one in error.value.refusals if one.where.endswith(f"pipelines.p.{field}")]
    assert told and words in f"{told[0].problem} {told[0].fix}" and "s3cret" not in str(error.value)
