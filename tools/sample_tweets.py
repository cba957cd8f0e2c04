"""Writes the demo's events: `python -m tools.sample_tweets --out FILE [--sdist FILE]`.

The same source always gives the same bytes.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import tempfile
from pathlib import Path

import msgspec

from tools import vader

SEED = 2014
EVENTS = 3_000
REPEATS = 300
# A repeat comes at most this many events after what it repeats, as a retweet would.
RECENT = 500

# Texts for other people's screens: tweets with these stems are left out (they stay among the training tweets).
_COARSE = re.compile(r"fuck|shit|bitch|cunt|nigg|fag|whore|slut|rape|retard", re.IGNORECASE)


def sample(tweets: list[vader.Snippet]) -> list[bytes]:
    """Return the events as JSON lines: distinct tweets in random order, and repeats of recent ones among them.

    A repeat draws from the recent *events*, so a text that was repeated is the likelier to be repeated again.
    """
    rng = random.Random(SEED)
    fresh = iter(rng.sample([tweet for tweet in tweets if not _COARSE.search(tweet.text)], EVENTS - REPEATS))
    repeats = set(rng.sample(range(100, EVENTS), REPEATS))
    stream: list[vader.Snippet] = []
    for number in range(EVENTS):
        stream.append(rng.choice(stream[-RECENT:]) if number in repeats else next(fresh))
    return [
        msgspec.json.encode(
            {
                "id": f"tweet-{number:04}",
                "text": tweet.text,
                "metadata": {"human_score": round(tweet.score, 3)},
            }
        )
        for number, tweet in enumerate(stream, start=1)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.sample_tweets", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="file to write, one event a line")
    parser.add_argument("--sdist", type=Path, help=f"{vader.SDIST_NAME}; fetched with pip if absent")
    arguments = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as directory:
            source = vader.read_sdist(arguments.sdist or vader.fetch_sdist(Path(directory)))
    except (vader.SourceError, OSError) as error:
        sys.exit(str(error))
    arguments.out.write_bytes(b"\n".join(sample(source.texts["tweets"])) + b"\n")


if __name__ == "__main__":
    main()
