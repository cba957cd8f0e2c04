"""What fields of a model that a server runs must hold together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from streamer.config.pipeline import DEFAULTS, PipelineConfig

BACKENDS: Final = ("openai", "tei")
_PREFIX: Final = "served_"
_OF_A_MODEL_HERE: Final = {
    "adapter": "the server loads adapters; name one in served_model",
    "dtype": "the server decides the number format",
    "device": "the server has the device",
    "compile": "the server runs the network",
    "threads": "a worker only asks the server",
    "batch_tokens": "the server makes the batches",
    "allow_downloads": "nothing is loaded here",
}
_WRITE: Final = "write http://HOST:PORT/v1 for OpenAI's API, http://HOST:PORT for TEI"


def check_served(pipeline: PipelineConfig) -> Iterator[tuple[str, str]]:
    """The field, and what to write instead. Quotes nothing of a URL, which may hold a password."""
    is_url = pipeline.model.startswith(("http://", "https://"))
    if pipeline.backend not in BACKENDS:
        for field in PipelineConfig.__struct_fields__:
            if field.startswith(_PREFIX) and getattr(pipeline, field) != DEFAULTS[field]:
                yield field, "it is for a model that a server runs; set backend to openai or tei, or remove it"
        if is_url:
            yield (
                "backend",
                f"the model is a URL, and {pipeline.backend} runs models here; set openai or tei for a server, or name"
                " a model of the hub by its commit, as org/name@REVISION",
            )
        return
    if not is_url:
        yield "model", f"backend {pipeline.backend} asks a server, and this is no URL; {_WRITE}"
        return
    if problem := _url_problem(pipeline.model):
        yield "model", problem
    for field, reason in _OF_A_MODEL_HERE.items():
        if getattr(pipeline, field) != DEFAULTS[field]:
            yield field, f"backend {pipeline.backend} takes none: {reason}; remove it"
    if pipeline.on_overflow == "window":
        yield "on_overflow", "a server reads no windows; set truncate or reject"


def _url_problem(url: str) -> str:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return f"its host or its port can't be read; {_WRITE}"
    if "@" in parts.netloc:
        return "it holds a user or a password; leave them out, and name the variable with the key in served_key_env"
    if not host or port == 0 or any(sign.isspace() for sign in url):
        return f"it has no host, a space, or a port that is none; {_WRITE}"
    if parts.query or parts.fragment:
        return f"it has a query or a fragment, which no request could keep; {_WRITE}"
    return ""
