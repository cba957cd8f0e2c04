"""A model that another program serves, asked over HTTP: to the worker one that streams."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, TypeVar

import msgspec

from streamer import __version__
from streamer.core.pacing import pause_s
from streamer.core.pipeline.protocol import ModelCard
from streamer.core.record import Answer
from streamer.core.replies import Verdict, verdict
from streamer.errors import DataFailure, ExitCode, FailureClass, ModelError
from streamer.inference.model import Batching, Encoded, NonFinite
from streamer.inference.served.api import (
    PROBE_TEXT,
    Answered,
    Api,
    Identity,
    MalformedError,
    TextRequest,
    WithheldError,
)
from streamer.inference.served.client import NoReplyError, Reply, ServerClient
from streamer.inference.served.flow import Requested, RequestFlow, said
from streamer.inference.served.options import SERVED_OPTIONS
from streamer.inference.spec import WorkerSpec
from streamer.inference.tasks.option_values import read_options
from streamer.inference.worker.forwarder import WorkerFailureError

log = logging.getLogger(__name__)

_START_S: Final = 10.0
"""How long a start waits for the server before the worker says so and ends; another is then started."""
_TURN_S: Final = 0.05
_PROBE_TOKENS: Final = 1
_SHOWN_VERSION: Final = 40
_NO_SIGN: Final = re.compile(r"[^A-Za-z0-9_.-]")
_HINT: Final = "correct the address, the key or served_model"
_HINTS: Final = {
    401: "name the variable with the server's key in served_key_env",
    403: "the key has no right to this model",
    **dict.fromkeys(
        (301, 302, 303, 307, 308),
        "it redirects, which is not followed, so that no key goes elsewhere; name the address that it redirects to",
    ),
    407: "the proxy that HTTP_PROXY names asks for a login",
    404: "the address of OpenAI's API usually ends in /v1, that of TEI in nothing",
}
_VERSION: Final = 1
"""Raise it with every change after which one of the answers may be another."""
_T = TypeVar("_T")


class ServedModel:
    """The one at `url`. Raises `ModelError` where it can't be served so, `WorkerFailureError` where nobody is there."""

    # All at once: a server makes its own batches.
    batching = Batching(1 << 30, 1e9, 1 << 30)

    def __init__(self, spec: WorkerSpec, url: str) -> None:
        self._spec, self._url = spec, url
        self._api = api_of(spec)
        self._client = ServerClient(url, spec.served)
        self._loop = asyncio.new_event_loop()
        self.on_step: Callable[[], None] = lambda: None
        self.steps = 0
        self.probe = self._encode_probe()
        self._forwarded = 0
        try:
            self._identity, self._told = self._run(self._meet())
        except BaseException:
            self._end(self._client.close())
            raise
        if self._identity.most:
            self._api.batch = min(self._api.batch, self._identity.most)
        self.card = self._card()
        self._flow = self._make_flow()

    # --- what a worker asks ----------------------------------------------------------------------------------------

    def encode(
        self,
        texts: Sequence[str],
        pairs: Sequence[str | None] | None,
        params: Sequence[dict[str, Any] | None] | None,
    ) -> list[Encoded | DataFailure]:
        """Check params, and say what is to be asked."""
        encode = self._api.encode
        return [
            encode(text, pairs[index] if pairs else None, params[index] if params else None)
            for index, text in enumerate(texts)
        ]

    def forward(self, batch: Sequence[Encoded]) -> list[Answer | NonFinite | DataFailure]:
        """All of a batch beside one another, until the last is answered."""
        numbers = range(self._forwarded - 1, self._forwarded - 1 - len(batch), -1)
        self._forwarded -= len(batch)
        for number, encoded in zip(numbers, batch, strict=True):
            self._flow.add(Requested(number, encoded.content))
        outcomes: dict[int, Answer | DataFailure] = {}
        while len(outcomes) < len(batch):
            self._turn(_TURN_S)
            outcomes |= {number: outcome for number, outcome in self._flow.ended if number in numbers}
            self._flow.ended = [one for one in self._flow.ended if one[0] not in numbers]
            self.on_step()
        return [outcomes[number] for number in numbers]

    def free_memory(self) -> None:
        """Holds none."""

    @property
    def capacity(self) -> int:
        """What may be under way, and as much again to go on with."""
        return 2 * max(1, int(self._flow.pacing.limit)) * self._api.batch

    @property
    def holding(self) -> str:
        """Why the server is waited for; "" while it answers."""
        return self._flow.holding

    def streams(self, encoded: Encoded) -> bool:
        """Everything does."""
        return True

    def add(self, number: int, encoded: Encoded) -> None:
        """Begin."""
        self._flow.add(Requested(number, encoded.content))

    def collect(self, timeout_s: float) -> list[tuple[int, Answer | DataFailure | None]]:
        """What ended, waiting up to `timeout_s` for something. Raises `WorkerFailureError` when the run must end."""
        self._turn(timeout_s)
        ended = [one for one in self._flow.ended if one[0] >= 0]
        self._flow.ended = [one for one in self._flow.ended if one[0] < 0]
        return ended  # type: ignore[return-value]

    def end(self) -> None:
        """Let the server go, with what is under way; a worker's process just ends."""
        self._end(self._flow.close(), self._client.close())

    def _end(self, *closing: Coroutine[Any, Any, None]) -> None:
        for one in closing:
            self._run(one)
        self._loop.close()

    # --- the server ------------------------------------------------------------------------------------------------

    def _turn(self, timeout_s: float) -> None:
        self.steps += 1  # to wait for a server is no hang
        self._run(self._flow.turn(timeout_s))
        if self._flow.failure is not None:
            raise self._flow.failure

    def _run(self, work: Coroutine[Any, Any, _T]) -> _T:
        return self._loop.run_until_complete(work)

    def _make_flow(self) -> RequestFlow:
        served = self._spec.served
        return RequestFlow(
            self._client, self._api, served, self._identity.model, self._url, self.probe.content, self._fits, self._look
        )

    async def _meet(self) -> tuple[Identity, Answered]:
        """Who serves, and the first answer. Waits a little for a server that is only starting."""
        began, attempt, ask = time.monotonic(), 0, self.probe.content
        while True:
            try:
                identity = await self._identify()
                reply = await self._client.post(ask.path, self._api.body([ask], identity.model))
                return identity, self._first_answer(reply, ask)
            except NoReplyError as error:
                if error.setting:
                    raise ModelError(f"{self._url}: {error}") from None
                if time.monotonic() - began > _START_S:
                    raise WorkerFailureError(
                        FailureClass.DEVICE, f"the server of the model, {self._url}: {error}", ExitCode.DEPENDENCY
                    ) from None
                if not attempt:
                    log.warning("%s: %s; it is tried again", self._url, error)
            await asyncio.sleep(pause_s(min(attempt, 3), 0.5))
            attempt += 1

    def _first_answer(self, reply: Reply, ask: TextRequest) -> Answered:
        match verdict(reply.status):
            case Verdict.ANSWER:
                try:
                    return self._api.read(reply.body, reply.headers, [ask])
                except (MalformedError, WithheldError) as error:
                    raise ModelError(f"{self._url}{ask.path}: its answer to a known text is none: {error}") from None
            case Verdict.LOAD | Verdict.SERVER:
                raise NoReplyError(said(reply, []))
            case Verdict.RECORD:
                raise ModelError(f"{self._url}{ask.path} refuses a known text: {said(reply, [])}")
            case _:
                lists = f"; the server lists the models {self._api.listed}" if self._api.listed else ""
                raise ModelError(f"{self._url}{ask.path}: {said(reply, [])}: {_HINT}{lists}")

    async def _identify(self) -> Identity:
        """Raises `NoReplyError` and `ModelError`."""
        path, wanted = self._api.about, self._spec.served.model
        reply = await self._client.get(path)
        match verdict(reply.status):
            case Verdict.ANSWER:
                try:
                    return self._api.identify(reply.body, wanted)
                except MalformedError as error:
                    raise ModelError(f"{self._url}{path}: {error}: is it the address of such an API?") from None
            case Verdict.LOAD | Verdict.SERVER:
                raise NoReplyError(said(reply, []))
            case _:
                if wanted and reply.status in (404, 405) and self._spec.backend == "openai":
                    return Identity(wanted)  # a gateway without a list
                raise ModelError(f"{self._url}{path}: {said(reply, [])}: {_HINTS.get(reply.status, _HINT)}")

    async def _look(self) -> str:
        """Why another model is served than at the start; "" where it is the same."""
        reply = await self._client.get(self._api.about)
        if (kind := verdict(reply.status)) is not Verdict.ANSWER:
            if kind is Verdict.SETTING and not self._identity.facts:
                return ""  # it had no list at the start either
            # 404 is no more than that: a proxy says so while there is nothing behind it.
            raise NoReplyError(said(reply, []), setting=reply.status in (401, 403))
        try:
            # Ours by its name: others may come and go beside it.
            found = self._api.identify(reply.body, self._identity.model)
        except MalformedError as error:
            raise NoReplyError(f"{self._api.about}: {error}") from None
        except ModelError as error:
            return str(error)
        if self._identity.facts and not (found.facts or self._api.listed):  # it has yet to load one
            raise NoReplyError(f"{self._api.about} lists no {self._identity.model}")
        return "" if found == self._identity else f"{self._api.about} says something else of {self._identity.model}"

    def _fits(self, told: Answered) -> bool:
        if (told.model and told.model != self._told.model) or told.width != self._told.width:
            return False
        return not self._spec.served.pinned or told.fingerprint == self._told.fingerprint

    def _card(self) -> ModelCard:
        """The revision is a digest of all that the server says of its model, and of where it is: a server that gives
        no version can't be told from another by anything else. What it says of a version stands before it."""
        served, identity, told = self._spec.served, self._identity, self._told
        fingerprint = told.fingerprint if served.pinned else ""
        says: list[Any] = [
            self._spec.backend,
            self._url,
            identity.model,
            identity.facts,
            told.model,
            fingerprint,
            served.revision,
        ]
        if told.width:
            says.append(told.width)
        digest = hashlib.sha256(msgspec.json.encode(says, order="deterministic")).hexdigest()
        version = _NO_SIGN.sub("_", served.revision or identity.version or fingerprint)[:_SHOWN_VERSION]
        return ModelCard(
            name=told.model or identity.model,
            revision=f"{version}-{digest[:16]}" if version else digest,
            task=self._spec.task,
            dtype=identity.dtype,
            backend=self._spec.backend,
            device="server",
            max_tokens=identity.max_tokens,
            temperature=self._api.temperature,
            implementation=f"served={_VERSION} streamer={__version__}",
            shared=served.pinned,
        )

    def _encode_probe(self) -> Encoded:
        params = {"max_new_tokens": _PROBE_TOKENS} if self._spec.task == "text-generation" else None
        pair = PROBE_TEXT if self._spec.task == "rerank" else None
        encoded = self._api.encode(PROBE_TEXT, pair, params)
        assert isinstance(encoded, Encoded)
        return encoded


def api_of(spec: WorkerSpec) -> Api:
    """The API of a backend and its task. Raises `ModelError` for options that it lacks."""
    options: Any = read_options(SERVED_OPTIONS[spec.backend][spec.task], spec.options, spec.task)
    batch, truncate = spec.served.batch, spec.on_overflow == "truncate"
    if spec.backend == "openai":
        from streamer.inference.served import openai

        if spec.task == "text-generation":
            return openai.OpenAiGeneration(options)
        return openai.OpenAiEmbeddings(options, batch)
    from streamer.inference.served import tei

    if spec.task == "rerank":
        return tei.RerankApi(options, truncate)
    return (tei.EmbedApi if spec.task == "embedding" else tei.PredictApi)(options, truncate, batch)
