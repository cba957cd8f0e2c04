"""The fields of a model that a server runs, for a pipeline to have: each with when to change it."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from streamer.config.kinds import kind

ServedName = Annotated[
    str,
    Meta(
        description='The model\'s name at the server, where backend is openai or tei; "" takes the only one that it'
        " has. Set it where the server has several."
    ),
]
ServedRevision = Annotated[
    str,
    Meta(
        description="Your own word for the version that the server has; it stands in the results' revision, and"
        " answers of another one are not taken from the cache. Change it with the weights of a server that does not"
        " tell their version, as most of OpenAI's API do not."
    ),
]
ServedKeyEnv = Annotated[
    str,
    kind("the name of an environment variable"),
    Meta(
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$|^$",
        description="The environment variable that holds the server's key, which goes into the header"
        ' `authorization`; "" sends none. Set it if the server asks for a key.',
    ),
]
ServedCa = Annotated[
    str,
    Meta(
        description='A file with the certificates of the server\'s CA (PEM); "" trusts those of this machine. Set'
        " it for an https:// server with a certificate of your own CA."
    ),
]
ServedRequests = Annotated[
    int,
    Meta(
        ge=1,
        le=1024,
        description="The most requests to the server at a time, of each worker; fewer while more bring nothing, or"
        " it says that it is overloaded. Raise it for a server that holds more, lower it to leave room for others.",
    ),
]
ServedBatch = Annotated[
    int,
    Meta(
        ge=1,
        le=2048,
        description="The most texts in one request for embeddings or labels. Lower it if the server refuses so many.",
    ),
]
ServedTimeout = Annotated[
    float,
    Meta(
        gt=0,
        le=86400,
        description="Seconds that one request may take before it is tried again. Raise it for long answers.",
    ),
]
ServedDeadline = Annotated[
    float,
    Meta(
        ge=0,
        description="Seconds after which a text that the server fails on, while it answers a known one, is a dead"
        " letter; 0 tries it for ever. Set it if one text must not keep its partition from going on.",
    ),
]
ServedFingerprint = Annotated[
    Literal["pinned", "ignored"],
    Meta(
        description="What to do about the system_fingerprint in answers. pinned ends the run when it"
        " changes (exit code 5; a restart goes on), so that each result names what made it. Set ignored for a"
        " service that has several at a time; answers then are not shared through Redis."
    ),
]
