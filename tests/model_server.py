"""A server of models that misbehaves as it is told: OpenAI's API under /v1, that of TEI at the root.

Words in a text are of that text alone: BAD is refused (400, with the text in the message), LONG too (413), CRASH fails
the server's own code (500), GARBAGE gets JSON of another form. `faults` are what the next requests get instead of an
answer, be it a text's or not.
"""

from __future__ import annotations

import gzip
import json
import socket
import ssl
import threading
import time
import zlib
from collections import Counter, deque
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from streamer.inference.spec import ServedSpec, WorkerSpec

MODEL = "tiny-chat"


class ModelServer:
    """Listens on a port of its own until `stop`; `start` listens there again. A context manager."""

    def __init__(
        self, *, key: str = "", delay_s: float = 0.0, room: int = 0, tls: ssl.SSLContext | None = None
    ) -> None:
        self.key, self.delay_s, self.room, self.tls = key, delay_s, room, tls
        self.models = [MODEL]
        self.fingerprint: str | None = "fp_1"
        self.sha = "a" * 40
        self.faults: deque[str] = deque()
        self.texts: list[str] = []
        """Of every request that was read, in the order in which they came."""
        self.statuses: Counter[int] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.connections = self.under_way = self.most_under_way = 0
        self.lock = threading.Lock()
        self.port, self.huge = 0, 0
        self._listener: ThreadingHTTPServer | None = None
        self._open: set[socket.socket] = set()
        self.start()

    def __enter__(self) -> ModelServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Of TEI's API; OpenAI's has /v1 behind it."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Listen, on the port of before."""
        outer = self

        class Handler(_Handler):
            server_of = outer

        class Listener(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 256
            block_on_close = False

            def process_request(self, request: Any, client_address: Any) -> None:
                with outer.lock:
                    outer.connections += 1
                    outer._open.add(request)
                super().process_request(request, client_address)

            def handle_error(self, request: Any, client_address: Any) -> None:
                """Connections that break are what is asked for."""

        self._listener = Listener(("127.0.0.1", self.port), Handler)
        self.port = self._listener.server_address[1]
        if self.tls is not None:
            self._listener.socket = self.tls.wrap_socket(self._listener.socket, server_side=True)
        threading.Thread(target=self._listener.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Refuse connections, and cut those that there are, answers and all."""
        if self._listener is None:
            return
        self._listener.shutdown()
        self._listener.server_close()
        self._listener = None
        with self.lock:
            cut, self._open = self._open, set()
        for one in cut:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True
    server_of: ModelServer

    def log_message(self, *args: Any) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        """What is served."""
        outer = self.server_of
        if not self._is_let_in():
            return
        if self.path == "/v1/models":
            served = [{"id": one, "object": "model", "created": time.time_ns(), "root": one} for one in outer.models]
            self._say(200, {"object": "list", "data": served})
        elif self.path == "/info":
            kind = {"reranker": {"id2label": {"0": "LABEL_0"}}} if "rerank" in outer.models else {"embedding": {}}
            kind = {"classifier": {}} if "predict" in outer.models else kind
            info = {"model_id": outer.models[0], "model_sha": outer.sha, "model_dtype": "float16", "model_type": kind}
            self._say(200, {**info, "max_input_length": 512, "max_client_batch_size": 8})
        else:
            self._say(404, {"error": "there is no such page"})

    def do_POST(self) -> None:
        """Answer, or not."""
        outer = self.server_of
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if not self._is_let_in():
            return
        if body.get("model", outer.models[0]) not in outer.models:
            self._say(404, {"error": {"message": f"no {body['model']}", "type": "NotFoundError"}})
            return
        texts = _texts_of(body)
        with outer.lock:
            outer.texts += texts
            outer.bodies.append(body)
            outer.under_way += 1
            outer.most_under_way = max(outer.most_under_way, outer.under_way)
            full = outer.room and outer.under_way > outer.room
            fault = outer.faults.popleft() if outer.faults else "429" if full else ""
        try:
            self._answer(fault, body, texts)
        finally:
            with outer.lock:
                outer.under_way -= 1

    def _answer(self, fault: str, body: dict[str, Any], texts: list[str]) -> None:
        outer = self.server_of
        if outer.delay_s:
            time.sleep(outer.delay_s)
        if fault == "reset":
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        elif fault == "half":
            self.close_connection = True
            self.wfile.write(b'HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{"choices": [')
        elif fault == "slow":
            time.sleep(5)
        elif fault == "garbage":
            self._say(200, {"choices": [{"text": 7}]})
        elif fault in ("gzip", "deflate", "chunked", "bare"):
            self._say_as(fault, json.dumps(self._result(body, texts)).encode())
        elif fault == "huge":
            self._write(200, b"[" + b"0," * outer.huge)
        elif fault.startswith("http"):
            self._say(307, {}, location=fault)
        elif fault in ("content_filter", "wide", "null"):
            self._say(200, self._odd(fault, self._result(body, texts)))
        elif fault == "no json":
            self._write(200, b"<html>oops")
        elif fault:
            status, _, after = fault.partition(" ")
            self._say(int(status), {"error": {"message": texts[0]}}, **({"retry-after": after} if after else {}))
        elif text := next((one for one in texts if "BAD" in one), None):
            error = {"message": f"no: {text}", "type": "BadRequestError", "param": text, "code": 400}
            self._say(400, {"error": error})
        elif any("LONG" in one for one in texts):
            self._say(413, {"error": f"too long: {texts}", "error_type": "Validation"})
        elif any("CRASH" in one for one in texts):
            self._say(500, {"error": {"message": f"crashed for {texts}", "type": "InternalServerError"}})
        elif any("GARBAGE" in one for one in texts):
            self._say(200, {"choices": []})
        else:
            self._say(200, self._result(body, texts))

    def _result(self, body: dict[str, Any], texts: list[str]) -> Any:
        outer = self.server_of
        said = {"model": outer.models[0], "system_fingerprint": outer.fingerprint}
        if self.path == "/v1/embeddings":
            vectors = [{"embedding": _vector(text), "index": index} for index, text in enumerate(texts)]
            return {"data": vectors[::-1], "usage": {"prompt_tokens": 3 * len(texts)}, **said}
        if self.path == "/embed":
            return [_vector(text) for text in texts]
        if self.path == "/predict":
            return [[{"label": "odd", "score": 0.25}, {"label": "even", "score": 0.75}] for _ in texts]
        if self.path == "/rerank":
            scores = [{"index": index, "score": len(text) / 100} for index, text in enumerate(texts)]
            return sorted(scores, key=lambda one: -one["score"])
        usage = {"prompt_tokens": 5, "completion_tokens": 2}
        choice = {"index": 0, "finish_reason": "length" if body.get("max_tokens") == 1 else "stop"}
        answer = texts[-1][::-1]
        if self.path == "/v1/chat/completions":
            message = {"role": "assistant", "content": answer}
            return {"choices": [{**choice, "message": message}], "usage": usage, **said}
        return {"choices": [{**choice, "text": answer}], "usage": usage, **said}

    def _odd(self, fault: str, result: Any) -> Any:
        if fault == "content_filter":
            result["choices"][0]["finish_reason"] = fault
        elif fault == "null":
            result["usage"] = {"prompt_tokens": None, "completion_tokens": None}
        else:
            for one in result["data"]:
                one["embedding"].append(1.0)
        return result

    def _say_as(self, how: str, body: bytes) -> None:
        """In another form of HTTP; `bare` is that of version 1.0, which ends with the connection."""
        form = {"gzip": b"content-encoding: gzip", "deflate": b"content-encoding: deflate"}
        packed = gzip.compress(body) if how == "gzip" else zlib.compress(body) if how == "deflate" else body
        if how == "chunked":
            halves = packed[:9], packed[9:], b""
            packed = b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in halves)
            form[how] = b"transfer-encoding: chunked"
        elif how == "bare":
            self.close_connection = True
            self.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n" + packed)
            return
        length = b"" if how == "chunked" else b"\r\ncontent-length: %d" % len(packed)
        self.wfile.write(b"HTTP/1.1 200 OK\r\n" + form[how] + length + b"\r\n\r\n" + packed)

    def _is_let_in(self) -> bool:
        key = self.server_of.key
        if not key or self.headers.get("authorization") == f"Bearer {key}":
            return True
        self._say(401, {"error": {"message": f"no: {self.headers.get('authorization')}", "type": "invalid_api_key"}})
        return False

    def _say(self, status: int, value: Any, **headers: str) -> None:
        self._write(status, json.dumps(value).encode(), **headers)

    def _write(self, status: int, body: bytes, **headers: str) -> None:
        with self.server_of.lock:
            self.server_of.statuses[status] += 1
        self.send_response_only(status)
        for name, value in {"content-type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _texts_of(body: dict[str, Any]) -> list[str]:
    if "messages" in body:
        return [one["content"] for one in body["messages"]]
    if "query" in body:
        return [str(one) for one in body["texts"]]
    found: Any = body.get("prompt", body.get("input", body.get("inputs")))
    return [one if isinstance(one, str) else one[0] for one in ([found] if isinstance(found, str) else found)]


def _vector(text: str) -> list[float]:
    return [float(len(text)), 0.5, -0.25]


def spec(server: ModelServer, task: str = "text-generation", *, tei: bool = False, **fields: Any) -> WorkerSpec:
    """A worker whose model the server runs, by OpenAI's API, or TEI's."""
    served = ServedSpec(**{"timeout_s": 2.0, **fields.pop("served", {})})
    url, backend = (server.url, "tei") if tei else (f"{server.url}/v1", "openai")
    return WorkerSpec("test", task, url, backend=backend, served=served, **fields)  # type: ignore[arg-type]
