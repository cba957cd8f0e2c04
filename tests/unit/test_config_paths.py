"""Names of files and of models' directories: the file's own folder for the file, the working directory for the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamer.config.load import load
from streamer.errors import ConfigurationError, ModelError
from streamer.inference.models.reference import Located, resolve

PIPELINE = "[pipelines.p]\ntask = 't'\ninput = 'a'\noutput = 'b'\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a configuration, beside the working directory; a model of the same name is in each."""
    for name in ("here", "there"):
        (tmp_path / name / "models" / "mine").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "there"


def model_of(folder: Path, line: str, environ: dict[str, str] | None = None, overrides: tuple[str, ...] = ()) -> str:
    """The model of the one pipeline of a file with this line."""
    file = folder / "streamer.toml"
    file.write_text(PIPELINE + line)
    return load(file, environ, overrides).pipelines["p"].model


@pytest.mark.parametrize("written", ["models/mine", "./models/mine", "models/../models/mine/", "../there/models/mine"])
def test_a_model_of_the_file_lies_below_its_folder(folder: Path, written: str) -> None:
    """However it is written, and whatever lies below the working directory; the name that results carry is the same."""
    found = resolve(model_of(folder, f"model = '{written}'"))
    assert found == Located(folder / "models" / "mine", "mine")


def test_a_file_is_found_by_a_relative_name_too(folder: Path) -> None:
    """And by the default name, in the working directory."""
    (folder / "streamer.toml").write_text(PIPELINE + "model = 'models/mine'")
    assert resolve(load("../there/streamer.toml").pipelines["p"].model) == Located(folder / "models" / "mine", "mine")
    Path("streamer.toml").write_text(PIPELINE + "model = 'models/mine'")
    assert Path(load().pipelines["p"].model) == Path.cwd() / "models" / "mine"


def test_a_model_from_outside_lies_below_the_working_directory(folder: Path) -> None:
    """As every path on a command line."""
    by_variable = {"STREAMER_PIPELINES__P__MODEL": "models/mine"}
    by_flag = ("pipelines.p.model=models/mine",)
    for found in (model_of(folder, "", by_variable), model_of(folder, "model = 'x'", None, by_flag)):
        assert resolve(found) == Located(Path.cwd() / "models" / "mine", "mine")


@pytest.mark.parametrize(
    "reference",
    [
        "builtin:null",
        "python:my_models:Mine",
        "package:streamer/demo/models/sentiment-micro",
        "~/models/mine",
        "org/name@0123456789012345678901234567890123456789",
        "org/name@main",
        "/models/mine",
    ],
)
def test_other_references_stay_as_they_are(folder: Path, reference: str) -> None:
    """They mean the same everywhere."""
    assert model_of(folder, f"model = '{reference}'") == reference


def test_an_absent_model_says_where_it_was_looked_for(folder: Path) -> None:
    """And what a name of the hub lacks."""
    with pytest.raises(ModelError) as caught:
        resolve(model_of(folder, "model = 'models/yours'"))
    assert f"'{folder}/models/yours'" in str(caught.value)
    with pytest.raises(ModelError) as caught:
        resolve(model_of(folder, "model = 'org/name'"))
    assert f"'{folder}/org/name'" in str(caught.value)
    assert "org/name@REVISION" in str(caught.value)


def test_files_of_the_file_lie_below_its_folder(folder: Path) -> None:
    """Secrets, the cache's key, and what the Kafka client reads itself."""
    (folder / "password").write_text("s3cret\n")
    (folder / "url").write_text("redis://:s3cret@cache:6379/0\n")
    file = folder / "streamer.toml"
    file.write_text(
        "[kafka.properties]\n'sasl.password_file' = 'password'\n'ssl.ca.location' = 'tls/ca.pem'\n"
        "'ssl.certificate.location' = '/etc/tls.pem'\n"
        "[cache]\nurl_file = 'url'\nkey_file = 'key'\n"
    )
    config = load(file)
    assert config.kafka.properties == {
        "sasl.password": "s3cret",
        "ssl.ca.location": str(folder / "tls" / "ca.pem"),
        "ssl.certificate.location": "/etc/tls.pem",
    }
    assert (config.cache.url, config.cache.key_file) == ("redis://:s3cret@cache:6379/0", str(folder / "key"))


@pytest.mark.parametrize(
    ("table", "word"), [("cache.key_file", "none"), ("kafka.properties.'ssl.ca.location'", "probe")]
)
def test_a_word_in_a_files_place_stays(folder: Path, table: str, word: str) -> None:
    """`none` is no key's name, `probe` no certificate's."""
    file = folder / "streamer.toml"
    file.write_text(f"{table} = '{word}'")
    config = load(file)
    assert word in (config.cache.key_file, *config.kafka.properties.values())


@pytest.mark.parametrize("from_outside", [False, True])
def test_a_tilde_is_the_home_directory(folder: Path, monkeypatch: pytest.MonkeyPatch, from_outside: bool) -> None:
    """Everywhere: the Kafka client would not know it."""
    monkeypatch.setenv("HOME", str(folder / "home"))
    (folder / "home").mkdir()
    (folder / "home" / "password").write_text("s3cret")
    file = folder / "streamer.toml"
    given = {"sasl.password_file": "~/password", "ssl.ca.location": "~/ca.pem"}
    lines = [] if from_outside else [f"kafka.properties.'{name}' = '{value}'" for name, value in given.items()]
    file.write_text("\n".join(lines))
    flags = [f"kafka.properties.{name}={value}" for name, value in given.items()] if from_outside else []
    assert load(file, {}, flags).kafka.properties == {
        "sasl.password": "s3cret",
        "ssl.ca.location": str(folder / "home" / "ca.pem"),
    }


def test_files_from_outside_lie_below_the_working_directory(folder: Path) -> None:
    """A variable's and a flag's."""
    Path("password").write_text("s3cret")
    environ = {"STREAMER_KAFKA__PROPERTIES__SASL_PASSWORD_FILE": "password", "STREAMER_CACHE__KEY_FILE": "key"}
    file = folder / "streamer.toml"
    file.write_text("")
    config = load(file, environ)
    assert (config.kafka.properties, config.cache.key_file) == ({"sasl.password": "s3cret"}, "key")


def test_an_absent_file_says_where_it_was_looked_for(folder: Path) -> None:
    """By its folder: a relative name may be the secret itself, in the wrong place."""
    file = folder / "streamer.toml"
    file.write_text("[kafka.properties]\n'sasl.password_file' = 'hunter2'\n")
    with pytest.raises(ConfigurationError) as caught:
        load(file)
    assert f"the file that it names (below {folder}) can't be read" in str(caught.value)
    assert "hunter2" not in str(caught.value)
