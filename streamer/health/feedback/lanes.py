"""Results looked up by several clients side by side: most of a look-up is waiting for a broker."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import groupby
from typing import Final

from streamer.config.load import Config
from streamer.core.health.feedback.feedback import Place
from streamer.core.health.feedback.join import Absent, Result
from streamer.errors import StreamerError
from streamer.kafka.lookup import Known, ResultLookUp, Source
from streamer.kafka.readings import Results

LANES: Final = 4
CHUNK: Final = 50
"""Results of one partition that are looked up in one go: several lanes share a partition that has more."""

Note = Callable[[Place, Result | Absent], None]


class Lanes:
    """Made in the event loop; what one client learns of a partition serves all."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._known: Known = {}
        self._plain = Results(config).plain
        self._clients: list[ResultLookUp] = []
        self._threads = ThreadPoolExecutor(LANES, thread_name_prefix="look-up")

    async def find(self, places: Sequence[Place], note: Note) -> None:
        """Look up places, which are in order, and note what is found of each.

        Raises what the first that failed raised, when the others are noted: StreamerError for a topic or a cluster.
        """
        work = deque(_chunks(places))
        lanes = min(LANES, len(work))
        while len(self._clients) < lanes:
            self._clients.append(ResultLookUp(self._config.kafka, self._known, plain=self._plain))
        found = await asyncio.gather(*(self._lane(client, work, note) for client in self._clients[:lanes]))
        for error in filter(None, found):
            raise error

    def close(self) -> None:
        """Close the clients when their searches are over, without waiting for that."""
        for client in self._clients:
            self._threads.submit(client.close)
        self._threads.shutdown(wait=False)

    async def _lane(self, client: ResultLookUp, work: deque[list[Place]], note: Note) -> Exception | None:
        failed: Exception | None = None
        while work:
            together = work.popleft()
            pipeline, topic, partition, _ = together[0]
            config, source = self._config.pipelines[pipeline], Source(topic, partition)
            search = partial(client.find, config.output, partition)
            if config.partitioning == "key":
                search = partial(client.find_by_key, config.output)
            search = partial(search, source, [place.offset for place in together])
            try:
                found = await asyncio.get_running_loop().run_in_executor(self._threads, search)
            except StreamerError as error:  # of one topic or partition: those of others are found
                failed = failed or error
                continue
            except Exception as error:
                return error
            for place, result in zip(together, found, strict=True):
                note(place, result)
        return failed


def _chunks(places: Sequence[Place]) -> Iterator[list[Place]]:
    for _, group in groupby(places, lambda place: place[:3]):
        together = list(group)
        for first in range(0, len(together), CHUNK):
            yield together[first : first + CHUNK]
