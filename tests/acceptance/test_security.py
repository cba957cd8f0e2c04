"""Runs against a broker with TLS, logins and access rights, and a Redis with both; and what they tell of it."""

from __future__ import annotations

import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialAlteration,
    UserScramCredentialUpsertion,
)

from streamer.cli import main
from streamer.config.load import KafkaConfig
from streamer.core.deadletters.audit import AUDIT_TOPIC
from streamer.core.pipeline.attempts import Note
from streamer.kafka.group_copier import Groups
from streamer.local import Listener, Stack
from streamer.local.ports import LOOPBACK, free_ports
from tests.acceptance.certificates import Certificates, make_certificates
from tests.acceptance.harness import Given, Lab, Run, event, wait_for
from tests.acceptance.tls_proxy import TlsProxy
from tests.integration.health_reports import App
from tests.integration.redis_server import RedisServer
from tests.unit.test_runbook import rights

CANARY = "c4n4ry"
PASSWORD, REDIS_PASSWORD = f"{CANARY}-kafka-password", f"{CANARY}-redis-password"
Right = tuple[ResourceType, str, AclOperation]


@dataclass(frozen=True, slots=True)
class Secure:
    """A broker with one open listener for the test itself, and one each for users with passwords, with tokens and with
    certificates."""

    open_servers: str
    servers: str
    token_servers: str
    mutual_servers: str
    certificates: Certificates

    def user(self, name: str, rights: list[Right]) -> dict[str, Any]:
        """Make a user with these rights; returns the properties of its clients."""
        admin = AdminClient({"bootstrap.servers": self.open_servers})
        scram = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        made: list[UserScramCredentialAlteration] = [UserScramCredentialUpsertion(name, scram, PASSWORD.encode())]
        for future in admin.alter_user_scram_credentials(made).values():
            future.result(30)
        self.grant(name, rights)
        return {
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": name,
            "sasl.password": PASSWORD,
            "ssl.ca.location": str(self.certificates.authority),
            "debug": "conf",
        }

    def grant(self, name: str, rights: list[Right]) -> None:
        """Let a user, whatever proves the name, do this."""
        admin = AdminClient({"bootstrap.servers": self.open_servers})
        acls = [
            AclBinding(kind, of, _pattern(kind), f"User:{name}", "*", operation, AclPermissionType.ALLOW)
            for kind, of, operation in rights
        ]
        for future in admin.create_acls(acls).values() if acls else ():
            future.result(30)


def _pattern(kind: ResourceType) -> ResourcePatternType:
    """Transactional ids are the group's name and the slot's."""
    prefixed = kind is ResourceType.TRANSACTIONAL_ID
    return ResourcePatternType.PREFIXED if prefixed else ResourcePatternType.LITERAL


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    certificates = make_certificates(tmp_path_factory.mktemp("certificates"))
    ports = free_ports(3)
    config = {
        "listener.security.protocol.map": (
            "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL,TOKENS:SASL_PLAINTEXT,MUTUAL:SSL"
        ),
        "sasl.enabled.mechanisms": "SCRAM-SHA-512,OAUTHBEARER",
        "listener.name.secure.scram-sha-512.sasl.jaas.config": (
            "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        ),
        "listener.name.secure.sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.tokens.sasl.enabled.mechanisms": "OAUTHBEARER",
        "listener.name.tokens.oauthbearer.sasl.jaas.config": (
            "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;"
        ),
        # A connection ends with the token that it was made with, unless the client shows a new one.
        "listener.name.tokens.oauthbearer.connections.max.reauth.ms": 3_600_000,
        "listener.name.mutual.ssl.client.auth": "required",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
    }
    for name in ("secure", "mutual"):
        config[f"listener.name.{name}.ssl.keystore.type"] = "PEM"
        config[f"listener.name.{name}.ssl.keystore.location"] = str(certificates.keystore)
        config[f"listener.name.{name}.ssl.truststore.type"] = "PEM"
        config[f"listener.name.{name}.ssl.truststore.location"] = str(certificates.authority)
    listeners = [
        Listener(name, [port], [port]) for name, port in zip(("SECURE", "TOKENS", "MUTUAL"), ports, strict=True)
    ]
    with Stack.start(redis=False, kafka_config=config, listeners=listeners) as stack:
        secret, token, mutual = (f"{LOOPBACK}:{port}" for port in ports)
        yield Secure(stack.bootstrap_servers, secret, token, mutual, certificates)


def rights_of(lab: Lab) -> dict[str, Right]:
    """What a pipeline needs, and nothing else."""
    return {
        "read the input": (ResourceType.TOPIC, lab.input, AclOperation.READ),
        "use the group": (ResourceType.GROUP, lab.group, AclOperation.READ),
        "write results": (ResourceType.TOPIC, lab.output, AclOperation.WRITE),
        "write dead letters": (ResourceType.TOPIC, lab.dead_letter, AclOperation.WRITE),
        "write reports": (ResourceType.TOPIC, lab.reports, AclOperation.WRITE),
        "write spans": (ResourceType.TOPIC, f"{lab.name}.spans", AclOperation.WRITE),
        "use transactions": (ResourceType.TRANSACTIONAL_ID, lab.group, AclOperation.WRITE),
    }


def lab_for(secure: Secure, folder: Path, properties: dict[str, Any]) -> Lab:
    """A lab whose runs come in at the secure listener."""
    folder.mkdir(exist_ok=True)
    lab = Lab(secure.open_servers, folder)
    lab.properties = properties
    return lab


@pytest.mark.promise(7)
def test_nothing_tells_a_secret_or_a_text(secure: Secure, tmp_path: Path) -> None:
    """Logged in with TLS at Kafka and Redis, at debug level: no password and no text in the log, the metrics, spans,
    reports, or in headers that are ours; the answers are right, and were kept in Redis."""
    with ExitStack() as stack:
        redis = stack.enter_context(RedisServer(password=REDIS_PASSWORD))
        proxy = stack.enter_context(TlsProxy(redis.port, secure.certificates))
        lab = stack.enter_context(lab_for(secure, tmp_path, {}))
        lab.properties = secure.user(f"{lab.name}-user", list(rights_of(lab).values()))
        lab.topics(2)
        spans = f"{lab.name}.spans"
        lab.create({spans: {}}, 1)
        lab.telemetry |= {"spans": spans, "http": "127.0.0.1:0", "log_level": "debug"}
        records = [event(number, CANARY, metadata={"of": CANARY}) for number in range(200)]
        records[10:14] = [
            event(10, f"RAISE {CANARY}"),
            Given(CANARY.encode(), b'{"text": "%s' % CANARY.encode(), []),
            event(12, f"NAN {CANARY}"),
            Given(None, b'{"text": 5, "id": "%s"}' % CANARY.encode(), [("traceparent", CANARY.encode())]),
        ]
        records[14] = event(14, f"SEGV {CANARY}")
        records[15] = Given(b"k", records[15].value, [("traceparent", b"00-%032x-%016x-01" % (7, 7))])
        lab.produce(records)
        url = f"rediss://:{REDIS_PASSWORD}@127.0.0.1:{proxy.port}/0?ssl_ca_certs={secure.certificates.authority}"
        key_file = tmp_path / "cache.key"
        key_file.write_text(CANARY * 8)
        config = lab.config(cache={"url": url, "key_file": str(key_file)}, options={"cacheable": True})
        config.write_text(config.read_text().replace(secure.open_servers, secure.servers))
        reader = lab.reader()
        run = lab.start(config)
        wait_for(lambda: reader.places == len(records), "all outcomes", run=run)
        (address,) = re.findall(r'"metrics and health are served".*?"address":"([^"]+)"', run.log)
        with urllib.request.urlopen(f"http://{address.removeprefix('http://')}/metrics") as page:
            metrics = page.read().decode()
        wait_for(lambda: redis.command("DBSIZE") > 100, "answers in Redis", run=run)
        assert run.stop() == 0, run.log
        codes = {outcome.code for outcome in reader.outcomes}
        assert codes == {"", "infer.exception", "decode.json", "infer.nan", "validate.text", "infer.worker_killed"}
        given = {"traceparent"}
        told = {
            "log": run.log,
            "metrics": metrics,
            "spans": _values(lab, spans),
            "reports": json.dumps(lab.read_reports()),
            "headers": str([{n: v for n, v in one.headers.items() if n not in given} for one in reader.outcomes]),
        }
        assert all(told.values())
        assert "SCRAM-SHA-512" in run.log, "the client did not tell its configuration: this proved less than it says"
        assert not [name for name, text in told.items() if CANARY in text]


@pytest.mark.case(14)
def test_a_missing_right_is_named(secure: Secure, tmp_path: Path) -> None:
    """Without one of the rights a run ends with exit code 3, and says which one of what it lacks."""
    names = ["read the input", "use the group", "write results", "write dead letters", "use transactions"]
    with ExitStack() as stack:
        runs = {}
        for name in names:
            lab = stack.enter_context(lab_for(secure, tmp_path / name, {}))
            rights = rights_of(lab)
            lacking = rights.pop(name)
            kind, of, _ = lacking
            lab.properties = secure.user(f"{lab.name}-user", [*rights.values(), (kind, of, AclOperation.DESCRIBE)])
            lab.topics(1)
            config = lab.config(model="builtin:null")
            config.write_text(config.read_text().replace(secure.open_servers, secure.servers))
            runs[name] = (lab.start(config), lacking)
        for name, (run, (kind, of, operation)) in runs.items():
            assert run.wait() == 3, f"{name}: {run.log}"
            words = {ResourceType.TRANSACTIONAL_ID: "transactional-id"}.get(kind, kind.name.lower())
            assert operation.name.title() in run.log, f"{name}: {run.log}"
            assert of in run.log, f"{name}: {run.log}"
            assert words in run.log, f"{name}: {run.log}"
            assert ("at_least_once" in run.log) == (name == "use transactions"), f"{name}: {run.log}"
            assert CANARY not in run.log


@pytest.mark.case(14)
def test_a_refused_login_and_an_unknown_certificate(secure: Secure, tmp_path: Path) -> None:
    """Both end a run with exit code 3 and name the properties to look at."""
    other = tmp_path / "other"
    other.mkdir()
    login = secure.user("nobody", [])
    cases = {
        "login": ({**login, "sasl.password": f"{CANARY}-wrong"}, "refuses the login"),
        "certificate": ({**login, "ssl.ca.location": str(make_certificates(other).authority)}, "ssl.ca.location"),
    }
    with ExitStack() as stack:
        runs = []
        for name, (properties, said) in cases.items():
            lab = stack.enter_context(lab_for(secure, tmp_path / name, properties))
            config = lab.config(model="builtin:null")
            config.write_text(config.read_text().replace(secure.open_servers, secure.servers))
            runs.append((lab.start(config), said))
        for run, said in runs:
            assert run.wait() == 3, run.log
            assert said in run.log
            assert CANARY not in run.log


def by_token(secure: Secure, lab: Lab, life_s: float, model: str = "builtin:null") -> Run:
    """A run that logs in with tokens of this life, from tests/login_tokens.py."""
    secure.grant(lab.name, list(rights_of(lab).values()))
    told = f"folder={lab.folder}&user={lab.name}&life={life_s}&secret={CANARY}"
    lab.properties = {
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "OAUTHBEARER",
        "sasl.oauthbearer.config": told,
    }
    config = lab.config(model)
    servers = f'"{secure.token_servers}"\noauth_callback = "tests.login_tokens:issue"'
    config.write_text(config.read_text().replace(f'"{secure.open_servers}"', servers))
    return lab.start(config)


@pytest.mark.every_way
def test_logins_by_token_and_by_certificate(secure: Secure, tmp_path: Path) -> None:
    """A pipeline whose clients are given tokens by a function, and one whose clients show a certificate, give results;
    a certificate of somebody else does not do."""
    (other := tmp_path / "other").mkdir()
    with ExitStack() as stack:
        token, mutual, stranger = (
            stack.enter_context(lab_for(secure, tmp_path / name, {})) for name in ("token", "mutual", "stranger")
        )
        for lab in (token, mutual):
            lab.topics(1)
            lab.produce([event(number) for number in range(20)])
        runs = [by_token(secure, token, 3600)]
        secure.grant("CN=127.0.0.1", list(rights_of(mutual).values()))
        for lab, own in ((mutual, secure.certificates), (stranger, make_certificates(other))):
            lab.properties = {
                "security.protocol": "SSL",
                "ssl.ca.location": str(secure.certificates.authority),
                "ssl.certificate.location": str(own.certificate),
                "ssl.key.location": str(own.key),
            }
            config = lab.config("builtin:null")
            config.write_text(config.read_text().replace(secure.open_servers, secure.mutual_servers))
            runs.append(lab.start(config))
        for lab, run in zip((token, mutual), runs, strict=False):
            reader = lab.reader()
            wait_for(lambda reader=reader: reader.places == 20, "all outcomes", run=run)
            assert run.stop() == 0, run.log
        assert len((token.folder / "calls").read_text().splitlines()) == 1, "clients of a process share a token"
        assert runs[2].wait() == 3, runs[2].log
        assert CANARY not in "".join(run.log for run in runs)


@pytest.mark.every_way
def test_tokens_are_renewed_and_a_callback_that_fails_is_asked_again(secure: Secure, tmp_path: Path) -> None:
    """Tokens of some seconds: an idle run is given new ones and goes on; while the callback fails past the end of the
    last one it says so and goes on afterwards; at a start it ends with exit code 5 and says why."""
    with lab_for(secure, tmp_path / "lab", {}) as lab:
        lab.topics(1)
        run = by_token(secure, lab, 12)
        reader = lab.reader()
        calls = lab.folder / "calls"
        wait_for(run.assigned, "its partition", run=run)
        wait_for(lambda: len(calls.read_text().splitlines()) >= 3, "idle, it is given new tokens", run=run)
        lab.produce([event(number) for number in range(20)])
        wait_for(lambda: reader.places == 20, "outcomes after renewals", run=run)
        (lab.folder / "fail").touch()
        asked = len(calls.read_text().splitlines())
        wait_for(lambda: "RuntimeError at login_tokens.py" in run.log, "the failure is said", run=run)
        time.sleep(15)  # the last token expires
        assert not run.ended, run.log
        assert len(calls.read_text().splitlines()) > asked + 1
        lab.produce([event(number) for number in range(20)])
        (lab.folder / "fail").unlink()
        wait_for(lambda: reader.places == 40, "outcomes after an outage of tokens", run=run)
        assert '"kafka.oauth_callback gives login tokens again"' in run.log
        assert run.stop() == 0, run.log
        (lab.folder / "fail").touch()
        late = by_token(secure, lab, 12)
        assert late.wait() == 5, late.log
        assert "kafka.oauth_callback raised RuntimeError at login_tokens.py" in late.log
        assert CANARY not in run.log + late.log


@pytest.mark.every_way
def test_a_token_callback_that_hangs_is_named_and_asked_again(secure: Secure, tmp_path: Path) -> None:
    """In the log, /readyz and the metric, within a minute of the last token's end; at a start it ends with exit code
    5."""
    with lab_for(secure, tmp_path / "lab", {}) as lab:
        lab.topics(1)
        lab.telemetry["http"] = "127.0.0.1:0"
        run = by_token(secure, lab, 12)

        def page(name: str) -> str:
            served = next(line for line in run.log.splitlines() if "are served" in line)
            try:
                with urllib.request.urlopen(f"http://{json.loads(served)['address']}/{name}", timeout=5) as found:
                    return str(found.read().decode())
            except urllib.error.HTTPError as error:
                with error:
                    return error.read().decode()

        reader = lab.reader()
        wait_for(run.assigned, "its partition", run=run)
        (hang := lab.folder / "hang").touch()
        told = "kafka.oauth_callback has not answered for"
        wait_for(lambda: f"is stuck (login): no client can log in: {told}" in run.log, "the hold is named", 75, run)
        assert told in page("readyz")
        assert 'reason="login"} 1' in page("metrics")
        lab.produce([event(number) for number in range(20)])
        hang.unlink()
        wait_for(lambda: reader.places == 20, "outcomes once it answers", run=run)
        wait_for(lambda: 'reason="login"} 0' in page("metrics"), "the hold is over", run=run)
        assert run.stop() == 0, run.log
        hang.touch()
        late = by_token(secure, lab, 12)
        assert late.wait() == 5, late.log
        assert told in late.log
        assert CANARY not in run.log + late.log


def granted(lab: Lab, user: str) -> list[Right]:
    """What deploy/RUNBOOK.md gives a user, for this lab's topics."""
    names = {
        "reviews": lab.input,
        "reviews.sentiment": lab.output,
        "reviews.sentiment.dlq": lab.dead_letter,
        "streamer.sentiment": lab.group,
        "streamer.sentiment.": f"{lab.group}.",
        "streamer.reports": lab.reports,
        "otlp_spans": f"{lab.name}.spans",
    }
    kinds = {"topic": "TOPIC", "group": "GROUP", "transactionalId": "TRANSACTIONAL_ID"}
    words = {"DescribeConfigs": "DESCRIBE_CONFIGS"}
    return [
        (ResourceType[kinds[kind]], names.get(name, name), AclOperation[words.get(operation, operation.upper())])
        for kind, name, _, operations in rights(user)
        for operation in operations
    ]


@pytest.mark.every_way
def test_the_rights_in_the_runbook_suffice(secure: Secure, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`reviews-run` runs a pipeline; `reviews-ops` sees all of it, replays, and buries the head of a held partition."""
    with lab_for(secure, tmp_path, {}) as lab:
        lab.topics(1)
        lab.create({f"{lab.name}.spans": {}, AUDIT_TOPIC: {}}, 1)
        lab.telemetry["spans"] = f"{lab.name}.spans"
        lab.produce([event(0), Given(None, b"{", []), event(2)])
        configs = {}
        for user in ("reviews-run", "reviews-ops"):
            lab.properties = secure.user(f"{lab.name}-{user}", granted(lab, user))
            del lab.properties["debug"]
            text = lab.config("builtin:null").read_text().replace(secure.open_servers, secure.servers)
            configs[user] = tmp_path / f"{user}.toml"
            configs[user].write_text(text)
        run = lab.start(configs["reviews-run"], "--until-end")
        assert run.wait() == 0, run.log

        def operate(*words: str, user: str = "reviews-ops") -> str:
            code = main([*words, "--config", str(configs[user])])
            said = capsys.readouterr()
            assert code == 0, said.out + said.err
            return said.out

        assert "caught up" in operate("lag", "--every-s", "0.1")
        assert "topic.rights" not in operate("doctor", "--no-model", user="reviews-run")
        operate("dlq", "replay", "--code", "decode.json", "--job", lab.name, "--execute")
        held = Note("d", by=["a", "b", "c"], at=3, until=4, held=True).write()
        with Groups(KafkaConfig(bootstrap_servers=secure.open_servers)).open(lab.group, None) as copier:
            copier.settle([], (lab.input, 0), (3, held))
        operate("dlq", "bury", f"{lab.input}/0/3", "--yes")


@pytest.mark.every_way
def test_the_rights_of_the_health_app_suffice(secure: Secure, tmp_path: Path) -> None:
    """`reviews-health` creates its topics, reads the reports, and sees that records wait for a pipeline."""
    pytest.importorskip("faust", reason="needs the extra health")
    with lab_for(secure, tmp_path, {}) as lab:
        lab.topics(1)
        (port,) = free_ports(1)
        lab.properties = secure.user(f"{lab.name}-health", granted(lab, "reviews-health"))
        del lab.properties["debug"]
        config = lab.config("builtin:null")
        text = config.read_text().replace(secure.open_servers, secure.servers)
        config.write_text(f'{text}\n[health]\nhttp = "{LOOPBACK}:{port}"\n')
        lab.produce([event(0)])
        app = App(config, port, tmp_path / "health.log")
        try:
            assert app.wait_for("/metrics", lambda page: "streamer_health_caught_up 1.0" in page)
            app.wait_for("/states", lambda page: any(each["rule"] == "silent" for each in page["states"]))
            assert "is unknown" not in app.log.read_text()
        finally:
            app.kill()


def _values(lab: Lab, topic: str) -> str:
    """What a topic of one partition holds."""
    consumer = Consumer(
        {"bootstrap.servers": lab.bootstrap_servers, "group.id": f"values-{lab.name}", "enable.partition.eof": True}
    )
    consumer.assign([TopicPartition(topic, 0, 0)])
    values = []
    while (message := consumer.poll(10)) is not None and message.error() is None:
        values.append(str(message.value()) + str(message.headers()))
    consumer.close()
    return "".join(values)
