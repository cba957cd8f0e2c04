"""How the health app's client logs in: what `kafka.properties` says, or a refusal by name."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("faust", reason="needs the extra health")

from faust.auth import OAuthCredentials, SASLCredentials, SSLCredentials

from streamer.config.fields import KafkaConfig
from streamer.errors import ConfigurationError
from streamer.health.security import credentials_of
from tests.acceptance.certificates import make_certificates


def of(**properties: Any) -> Any:
    """The credentials of these properties, with `_` for dots."""
    return credentials_of(KafkaConfig(properties={name.replace("_", "."): text for name, text in properties.items()}))


def test_plain_text_needs_none() -> None:
    assert of() is None
    assert of(security_protocol="plaintext", socket_timeout_ms=5000) is None


def test_a_login() -> None:
    found = of(security_protocol="SASL_PLAINTEXT", sasl_mechanism="SCRAM-SHA-512", sasl_username="u", sasl_password="p")
    assert isinstance(found, SASLCredentials)
    assert (found.username, found.password, found.mechanism.value) == ("u", "p", "SCRAM-SHA-512")
    assert found.protocol.value == "SASL_PLAINTEXT"


def test_a_login_by_token() -> None:
    """From the function that the other clients are given tokens by."""
    properties = {"security.protocol": "sasl_plaintext", "sasl.mechanism": "OAUTHBEARER"}
    found = credentials_of(
        KafkaConfig(oauth_callback=f"{__name__}:issue", properties={**properties, "sasl.oauthbearer.config": "x"})
    )
    assert isinstance(found, OAuthCredentials) and found.mechanism.value == "OAUTHBEARER"
    assert asyncio.run(found.oauth_cb.token()) == "token for x"
    assert found.oauth_cb.extensions() == {"pool": "1"}


def issue(config: str) -> tuple[str, float, str, dict[str, str]]:
    """A token with an extension."""
    return f"token for {config}", 4e9, "", {"pool": "1"}


def test_tls(tmp_path: Path) -> None:
    authority = str(make_certificates(tmp_path).authority)
    found = of(security_protocol="ssl", ssl_ca_location=authority)
    assert isinstance(found, SSLCredentials)
    assert found.context.verify_mode is ssl.CERT_REQUIRED and found.context.check_hostname
    both = of(security_protocol="sasl_ssl", ssl_ca_location=authority, sasl_mechanism="PLAIN")
    assert (both.protocol.value, both.ssl_context.check_hostname) == ("SASL_SSL", True)


@pytest.mark.parametrize(
    ("properties", "told"),
    [
        ({"security_protocol": "sasl_ssl", "sasl_mechanism": "OAUTHBEARER"}, "kafka.properties.sasl.mechanism: "),
        ({"security_protocol": "sasl_plaintext"}, "can't do GSSAPI"),
        ({"security_protocol": "tls"}, "kafka.properties.security.protocol: tls is unknown"),
        ({"security_protocol": "ssl", "ssl_ca_location": "/none"}, "ssl.ca.location: it can't be loaded"),
        ({"security_protocol": "ssl", "ssl_ca_pem": "x"}, "kafka.properties.ssl.ca.pem: `streamer health run` can't"),
    ],
)
def test_what_is_refused(properties: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        of(**properties)
    assert told in str(error.value)
