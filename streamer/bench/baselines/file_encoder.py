"""The program that people write to embed a file: read all of it, encode all texts sorted by length, write all vectors.

`python -m streamer.bench.baselines.file_encoder SETTINGS`: as JSON the `way`, the model's path, the dtype,
`max_tokens`, `input`, `output`, and `ready`, a file that is made once the model is loaded. Torch chooses its threads.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import msgspec

from streamer.bench.baselines.encoders import Vectors, make


def main(settings: dict[str, Any]) -> None:
    """Load, then embed the file."""
    encoder = make(settings["way"], Path(settings["model"]), settings["dtype"], settings["max_tokens"])
    encoder.encode(["a text"])
    Path(settings["ready"]).touch()
    source, target = Path(settings["input"]), Path(settings["output"])
    if source.suffix == ".parquet":
        _table(encoder, source, target)
        return
    decode = msgspec.json.Decoder(dict[str, str]).decode
    rows = [decode(line) for line in source.read_bytes().splitlines()]
    vectors = encoder.encode([row["text"] for row in rows])
    encode = msgspec.json.Encoder().encode
    with target.open("wb") as stream:
        for row, vector in zip(rows, vectors, strict=True):
            stream.write(encode({"id": row["id"], "vector": vector.tolist()}) + b"\n")


def _table(encoder: Any, source: Path, target: Path) -> None:
    import pyarrow
    import pyarrow.parquet as parquet

    table = parquet.read_table(source)
    vectors: Vectors = encoder.encode(table["text"].to_pylist())
    column = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(vectors.reshape(-1)), vectors.shape[1])
    parquet.write_table(pyarrow.table({"id": table["id"], "vector": column}), target)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
