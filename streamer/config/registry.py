"""The fields of the schema registry: names, bounds, defaults, and for each when to change it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated
from urllib.parse import urlsplit

from msgspec import Meta, Struct

from streamer.config.pipeline import PipelineConfig


class SchemaRegistryConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The schema registry that knows the schemas of events in Avro, Protobuf or JSON Schema."""

    url: Annotated[
        str,
        Meta(
            description="Where the schema registry is, e.g. https://registry:8081; several are separated by commas."
            " Set it when a pipeline has an input_format or output_format other than json."
        ),
    ] = ""
    user: Annotated[
        str,
        Meta(description="User of basic authentication, or the API key. Set it where the registry asks for one."),
    ] = ""
    password: Annotated[
        str,
        Meta(
            description="Password of that user, or the API key's secret. Set it in the environment"
            " (STREAMER_SCHEMA_REGISTRY__PASSWORD), or use password_file."
        ),
    ] = ""
    password_file: Annotated[
        str,
        Meta(description="A file that holds the password, instead of `password`. Use it for mounted secrets."),
    ] = ""
    ca_file: Annotated[
        str,
        Meta(
            description='A PEM file of the authorities that sign the registry\'s certificate; "" means the public ones.'
            " Set it for an authority of your own."
        ),
    ] = ""
    certificate_file: Annotated[
        str,
        Meta(description="A PEM file of the client's certificate. Set it where the registry asks for one (mTLS)."),
    ] = ""
    key_file: Annotated[
        str,
        Meta(
            description="A PEM file of that certificate's key, without a password. Set it if the key is not in"
            " certificate_file."
        ),
    ] = ""
    timeout_s: Annotated[
        float,
        Meta(
            gt=0,
            le=60,
            description="Seconds that the registry has to answer before it is asked again. Raise it for slow networks.",
        ),
    ] = 5.0

    def __repr__(self) -> str:
        """Without the password."""
        return f"SchemaRegistryConfig(url={self.url!r}, password={'<set>' if self.password else ''!r})"


def check_registry(registry: SchemaRegistryConfig) -> Iterator[tuple[str, str]]:
    """What is wrong with the section: field, what and how to fix it. Nothing of a URL is quoted."""
    for url in registry.url.split(",") if registry.url else ():
        try:
            parts = urlsplit(url.strip())
            sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            sound = False
            parts = urlsplit("")
        if not sound or len(url.split()) > 1 or parts.query or parts.fragment:
            yield "url", "no URL of a schema registry; write https://HOST:PORT, with commas between several"
        elif "@" in parts.netloc:
            yield "url", "it holds a user or a password; write them as user and password_file"
    if bool(registry.user) != bool(registry.password):
        missing = "password" if registry.user else "user"
        yield missing, "user and password go together; set both or none"
    if ":" in registry.user:
        yield "user", "a user of basic authentication has no colon; correct it"
    if registry.key_file and not registry.certificate_file:
        yield "key_file", "a key goes with a certificate; set certificate_file too"


def check_format(registry: SchemaRegistryConfig, pipeline: PipelineConfig) -> Iterator[tuple[str, str]]:
    """What of a pipeline does not go with the registry."""
    for side in ("input", "output"):
        named = getattr(pipeline, f"{side}_format")
        if named != "json" and not registry.url:
            yield f"{side}_format", f"{named} needs a schema registry; set schema_registry.url"
        if named == "json" and getattr(pipeline, f"{side}_subject"):
            yield f"{side}_subject", f"plain JSON has no subject; set {side}_format, or remove it"
    if pipeline.output_format == "json" and pipeline.output_schema_id != "value":
        yield "output_schema_id", "plain JSON has no schema to name; set output_format, or remove it"
