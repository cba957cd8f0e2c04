"""What docs/managed.md shows is a configuration, and librdkafka knows each property."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from streamer.config.load import load
from streamer.kafka.clients import check_properties
from streamer.kafka.tokens import tokens
from tests.acceptance.certificates import make_certificates

PAGE = (Path(__file__).parents[2] / "docs/managed.md").read_text()
SHOWN = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("shown", SHOWN)
def test_each_configuration_is_one(shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the files that it names in place."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "msk_login.py").write_text("def issue(region): ...\n")
    (secret := tmp_path / "secret").write_text("x")
    made = make_certificates(tmp_path)
    files = {"ca.pem": made.authority, "client.pem": made.certificate, "client.key": made.key}
    shown = re.sub(r"/run/secrets/[\w-]+", str(secret), shown)
    shown = re.sub(r"/etc/kafka/([\w.]+)", lambda match: str(files[match[1]]), shown)
    (path := tmp_path / "streamer.toml").write_text(shown)
    kafka = load(path, {}).kafka
    check_properties(kafka)
    assert kafka.properties
    tokens.cache_clear()


def test_the_page_has_them() -> None:
    assert len(SHOWN) == 6
