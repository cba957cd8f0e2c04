"""The PEM files that a configuration names for TLS: whether they can be used, before anything is started with them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl

from streamer.config.fields import Config
from streamer.config.files import names_file
from streamer.config.problems import Problem
from streamer.config.properties import property_text
from streamer.config.registry import SchemaRegistryConfig

Setting = tuple[str, str]
"""A setting's name, and the file that it names; "" for none."""

_NONE: Final = ("", "")
_OF_KAFKA: Final = ("ssl.ca.location", "ssl.certificate.location", "ssl.key.location")
_OF_REDIS: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_READABLE: Final = "name a file that this user may read"


def tls_problem(
    authority: Setting = _NONE, certificate: Setting = _NONE, key: Setting = _NONE, password: str = ""
) -> Setting | None:
    """The first setting whose file can't be used, with what is wrong and how to fix it: one of the authorities to
    trust, or one's own certificate and its key, which may be in the same file. Quotes nothing of a file."""
    for name, file in (authority, certificate):
        if file and (text := _not_certificates(file)):
            return name, text
    if key[1] and (text := unreadable(key[1])):
        return key[0], text
    if certificate[1] and (text := _not_its_key(certificate[1], key[1] or certificate[1], password)):
        return key[0] if key[1] else certificate[0], text
    return None


def registry_problem(registry: SchemaRegistryConfig) -> Setting | None:
    """The field of the schema registry whose file can't be used, and why."""
    ca, certificate, key = ((field, getattr(registry, field)) for field in ("ca_file", "certificate_file", "key_file"))
    return tls_problem(ca, certificate, key)


def certificate_problems(config: Config) -> Iterator[Problem]:
    """The settings of TLS whose files can't be used."""
    for name, text in _kafka_problems(config):
        yield ("kafka", "properties", name), text
    if found := registry_problem(config.schema_registry):
        yield ("schema_registry", found[0]), found[1]
    options = dict(parse_qsl(config.cache.url.partition("?")[2]))
    ca, certificate, key = ((name, options.get(name, "")) for name in _OF_REDIS)
    if found := tls_problem(ca, certificate, key, options.get("ssl_password", "")):
        yield ("cache", "url_file" if config.cache.url_file else "url"), f"{found[0]}: {found[1]}"
    for pipeline, fields in config.pipelines.items():
        if found := tls_problem(("served_ca", fields.served_ca)):
            yield ("pipelines", pipeline, found[0]), found[1]


def unreadable(file: str) -> str:
    """Why a file can't be read, and the fix; "" where it can."""
    if "\n" in file or "\0" in file:  # somebody wrote what is to be in the file, which may be a key
        return f"it is not a file name; {_READABLE}"
    try:
        with Path(file).open("rb") as opened:
            opened.read(1)
    except OSError as error:
        return f"{file} can't be read ({error.strerror}); {_READABLE}"
    return ""


def _kafka_problems(config: Config) -> Iterator[Setting]:
    given = {name: property_text(value) for name, value in config.kafka.properties.items()}
    ca, certificate, key = ((name, given.get(name, "")) for name in _OF_KAFKA)
    if ca[1] == "probe" or Path(ca[1]).is_dir():  # the client takes both
        ca = _NONE
    # Without a file of a key it may stand in another property.
    problem = tls_problem(ca, certificate, key, given.get("ssl.key.password", "")) if key[1] else tls_problem(ca)
    if problem is None and not key[1]:
        problem = tls_problem(certificate)
    if problem is not None:
        yield problem
    for name, file in given.items():
        if names_file(name) and name not in _OF_KAFKA and file and (text := unreadable(file)):
            yield name, text


def _not_certificates(file: str) -> str:
    import ssl

    if text := unreadable(file):
        return text
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(file)
    except ssl.SSLError:
        return f"{file} holds no certificate in PEM; name one that begins with -----BEGIN CERTIFICATE-----"
    return ""


def _not_its_key(certificate: str, key: str, password: str) -> str:
    import ssl

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, key, password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            return f"{key} is not the key of {certificate}; name the one that belongs to it"
        return f"{key} holds no key in PEM that can be read; name one without a password, or with the one that is set"
    return ""
