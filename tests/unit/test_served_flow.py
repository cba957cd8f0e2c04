"""What is said of a model's server, in orders of events that a real server gives once in a thousand times."""

from __future__ import annotations

import asyncio
from typing import Any

from streamer.core.record import Answer
from streamer.inference.served.api import Answered, TextRequest
from streamer.inference.served.client import NoReplyError, Reply
from streamer.inference.served.flow import Requested, RequestFlow
from streamer.inference.spec import ServedSpec

PROBE = TextRequest("/v1/x", {}, ("probe",))


class OneByOne:
    """An API of one text a request, whose answer says nothing."""

    batch, about = 1, "/v1/models"

    def body(self, asks: list[TextRequest], name: str) -> Any:
        return asks[0].texts[0]

    def read(self, body: bytes, headers: Any, asks: list[TextRequest]) -> Answered:
        return Answered([Answer(body)])


class Goes:
    """A server that is gone: what was sent before is refused to the first and answered to the second."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()

    async def post(self, path: str, body: Any) -> Reply:
        if body == "first":
            self.gone.set()
            raise NoReplyError("it refuses connections", down=True)
        if body == "second":
            await self.gone.wait()
            await asyncio.sleep(0.01)
            return Reply(200, b"{}", {})
        raise NoReplyError("it refuses connections", down=True)


def test_a_late_answer_does_not_hide_that_the_server_is_gone() -> None:
    """It came from before the end. What is asked next is what is served now, and whom the worker waits for is said."""

    async def run() -> str:
        async def check() -> str:
            raise NoReplyError("it refuses connections", down=True)

        flow = RequestFlow(
            Goes(),  # type: ignore[arg-type]
            OneByOne(),  # type: ignore[arg-type]
            ServedSpec(),
            "m",
            "http://llm/v1",
            PROBE,
            lambda _: True,
            check,
        )
        for number, text in enumerate(("first", "second")):
            flow.add(Requested(number, TextRequest("/v1/x", {}, (text,))))
        while not flow.ended:
            await flow.turn(0.05)
        flow.ended.clear()
        for _ in range(40):
            await flow.turn(0.05)
        await flow.close()
        return flow.holding

    assert asyncio.run(run()) == "http://llm/v1: it refuses connections"
