"""`kafka.properties`, written for librdkafka, as the credentials that Faust's client takes."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from typing import Final

from aiokafka.abc import AbstractTokenProvider
from faust.auth import OAuthCredentials, SASLCredentials, SSLCredentials
from faust.types.auth import CredentialsT

from streamer.config.fields import KafkaConfig
from streamer.config.properties import property_text
from streamer.errors import ConfigurationError
from streamer.kafka.tokens import tokens

_PROTOCOLS: Final = ("plaintext", "ssl", "sasl_plaintext", "sasl_ssl")
_MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_KNOWN: Final = frozenset(
    {
        "sasl.mechanism",
        "sasl.mechanisms",
        "sasl.oauthbearer.config",
        "sasl.password",
        "sasl.username",
        "ssl.ca.location",
        "ssl.certificate.location",
        "ssl.endpoint.identification.algorithm",
        "ssl.key.location",
        "ssl.key.password",
    }
)


def credentials_of(kafka: KafkaConfig) -> CredentialsT | None:
    """How the app proves who it is; None for plain text. Raises ConfigurationError for what Faust's client can't do."""
    given = {name: property_text(value) for name, value in kafka.properties.items()}
    protocol = given.get("security.protocol", "plaintext").lower()
    if protocol not in _PROTOCOLS:
        raise _refused("security.protocol", f"{protocol} is unknown; write one of {', '.join(_PROTOCOLS)}")
    for name in sorted(given):
        if name.startswith(("ssl.", "sasl.")) and name not in _KNOWN and not name.endswith(".ms"):
            raise _refused(name, f"`streamer health run` can't do that; it knows {', '.join(sorted(_KNOWN))}")
    context = _context(given) if protocol.endswith("ssl") else None
    if not protocol.startswith("sasl"):
        return SSLCredentials(context) if context is not None else None
    mechanism = given.get("sasl.mechanism") or given.get("sasl.mechanisms") or "GSSAPI"
    if mechanism == "OAUTHBEARER" and kafka.oauth_callback:
        provider = _Provider(kafka.oauth_callback, given.get("sasl.oauthbearer.config", ""))
        return OAuthCredentials(oauth_cb=provider, ssl_context=context)
    if mechanism not in _MECHANISMS:
        others = f"{', '.join(_MECHANISMS)}, and OAUTHBEARER with kafka.oauth_callback"
        raise _refused("sasl.mechanism", f"`streamer health run` can't do {mechanism}; it does {others}")
    return SASLCredentials(
        username=given.get("sasl.username", ""),
        password=given.get("sasl.password", ""),
        mechanism=mechanism,
        ssl_context=context,
    )


class _Provider(AbstractTokenProvider):  # type: ignore[misc]
    """Tokens of the user's function, for each connection: brokers end one when its token expires."""

    def __init__(self, name: str, config: str) -> None:
        self._tokens, self._config = tokens(name), config
        self._extensions: dict[str, str] = {}

    async def token(self) -> str:
        token, _, _, self._extensions = await asyncio.to_thread(self._tokens, self._config)
        return token

    def extensions(self) -> dict[str, str]:
        return self._extensions


def _context(given: Mapping[str, str]) -> ssl.SSLContext:
    name = "ssl.ca.location"
    try:
        context = ssl.create_default_context(cafile=given.get(name))
        if (certificate := given.get("ssl.certificate.location")) is not None:
            name = "ssl.certificate.location"
            context.load_cert_chain(certificate, given.get("ssl.key.location"), given.get("ssl.key.password"))
    except (OSError, ssl.SSLError) as error:
        why = error.strerror or type(error).__name__
        raise _refused(name, f"it can't be loaded ({why}); name a PEM file that this user may read") from None
    return context


def _refused(name: str, why: str) -> ConfigurationError:
    return ConfigurationError(f"kafka.properties.{name}: {why}")
