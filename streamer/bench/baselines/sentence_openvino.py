"""sentence-transformers' own OpenVINO backend, in a process and an environment of its own.

Its extra `openvino` pins an older transformers than ours, so this file imports nothing of streamer and runs in any
Python that has `sentence-transformers[openvino]`. It takes a JSON document as its argument, then serves turns.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from typing import IO, Any

BATCH = 32
PRECISIONS = {"bfloat16": "bf16", "float32": "f32"}


def main(settings: dict[str, Any]) -> None:
    """Serve one way, named ""."""
    answers, sys.stdout = sys.stdout, sys.stderr  # the libraries print while they convert the model

    from sentence_transformers import SentenceTransformer

    hints = {"INFERENCE_PRECISION_HINT": PRECISIONS[settings["dtype"]], "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}
    model = SentenceTransformer(
        settings["model"],
        backend="openvino",
        device="cpu",
        local_files_only=True,
        model_kwargs={"export": True, "ov_config": hints},
    )

    def encode(texts: list[str]) -> Any:
        return model.encode(texts, batch_size=BATCH, normalize_embeddings=True, show_progress_bar=False)

    serve_turns({"": encode}, answers)


def serve_turns(ways: Mapping[str, Callable[[list[str]], Any]], answers: IO[str]) -> None:
    """Answer requests, a line each, until standard input ends: `{"way": "…", "texts": […]}` with the wall and CPU
    seconds of encoding them that way, `{}` with the vectors of the last ones."""
    vectors: Any = None
    for line in sys.stdin:
        request = json.loads(line)
        if "texts" in request:
            wall, cpu = time.perf_counter(), time.process_time()
            vectors = ways[request["way"]](request["texts"])
            answer: Any = (time.perf_counter() - wall, time.process_time() - cpu)
        else:
            answer = vectors.tolist()
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
