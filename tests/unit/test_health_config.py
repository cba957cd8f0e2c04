"""[health]: what is wrong with it is named by its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamer.config.load import load, redacted
from streamer.errors import ConfigurationError


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[health]\ntopic = "streamer.reports"', "health.topic: streamer.reports takes the reports"),
        ('[health]\nfeedback = "streamer.health"', "health.feedback: streamer.health is what the app writes"),
        ('[health]\nhttp = "127.0.0.1:0"', "health.http: there is no port 0"),
        ('[health]\nhttp = "127.0.0.1:70000"', "health.http: there is no port 70000"),
        ('[health]\nwebhook = "ftp://a"', "health.webhook: it is not an http:// or https:// URL"),
        ("[health.rules.mine]\nthreshold = 1.0", "health.rules.mine: it needs a metric"),
        ('[health.rules.mine]\nmetric = "silent_s"', "health.rules.mine: it needs a threshold"),
        ('[health.rules.mine]\nmetric = "mood"', 'health.rules.mine.metric: it must be one of "", "dead_letter_share"'),
        ("[health.rules.latency]\nover_s = 90", "health.rules.latency.over_s: 90 s is not a whole number of minutes"),
        ("[health.rules.latency]\nrecover = 1e9", "health.rules.latency.recover: 1e+09 is above the threshold, 60000"),
        ("[health.rules.latency]\nrecover = 0", "health.rules.latency.recover: no number is below it"),
        ("[health.rules.latency]\nthreshold = -5", "health.rules.latency.threshold: at -5 the rule would always be"),
        ("[health.rules.dead-letters]\nthreshold = 5", "dead_letter_share is 1 at most, and not 5; for 5 % write 0.05"),
        ('[health.rules.latency]\nmetric = "cached_share"', "cached_share is 1 at most, and not 60000"),
        (
            '[health]\ntopic = "a.dlq"\nfeedback = "a"',
            "health.feedback: what is refused goes to a.dlq, which takes what",
        ),
        ("[health.rules.latency]\nover_s = 172800", "health.rules.latency.over_s: 172800 s is more than a day"),
        (
            '[health.rules.right]\nmetric = "accuracy"\nthreshold = 0.8\nrecover = 0.7',
            "health.rules.right.recover: 0.7 is below the threshold, 0.8",
        ),
        ("[health.rules.window]\nover_s = 60", "health.rules.window: no name for a rule"),
        ('[health.rules."silent\\n"]\nover_s = 60', "no name for a rule"),
        ("[health.rules.latency]\nlimit = 60", "health.rules.latency.limit: unknown field"),
    ],
)
def test_what_is_wrong_is_named(text: str, told: str, tmp_path: Path) -> None:
    file = tmp_path / "streamer.toml"
    file.write_text(text)
    with pytest.raises(ConfigurationError) as error:
        load(file)
    assert told in str(error.value)


def test_a_webhook_may_be_a_secret(tmp_path: Path) -> None:
    (tmp_path / "hook").write_text("https://example.org/secret\n")
    file = tmp_path / "streamer.toml"
    file.write_text('[health]\nwebhook_file = "hook"\n[health.rules.latency]\nthreshold = 1000\n')
    config = load(file)
    assert config.health.webhook == "https://example.org/secret"
    assert config.health.rules["latency"].threshold == 1000
    assert "secret" not in f"{redacted(config)}{config!r}"


def test_the_environment_reaches_a_rule() -> None:
    config = load(None, {"STREAMER_HEALTH__RULES__LATENCY__THRESHOLD": "5000"}, ["health.rules.silent.severity=off"])
    assert config.health.rules["latency"].threshold == 5000
    assert config.health.rules["silent"].severity == "off"
