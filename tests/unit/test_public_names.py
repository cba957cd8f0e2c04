"""A name means one thing: whoever reads it, or looks for it, finds one class."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "streamer"

# They stand beside the product, which imports none of them: each is read with its own part.
BESIDE = {"bench", "demo", "simulation", "testing"}

# Names that are shared all the same, by why that misleads nobody, or not yet enough. Add none for two classes that one
# module could mistake for each other: give the newer one another name.
KNOWN = {
    "a task, and the form of its answers, or of what a report says of them": {
        "Candidate", "Embedding", "Entity", "FillMask", "Generated", "QuestionAnswering", "Scoring", "Span",
        "TextClassification", "TextGeneration", "TokenClassification",
    },
    "what a caller of `streamer.infer` gets, and what the core makes of a record": {"DeadLetter", "Result", "Skipped"},
    "a port, and what stands behind it or fits it": {
        "Codec", "Copier", "Encoder", "GroupCopier", "Groups", "Offsets", "Scan", "Source",
    },
    "a model: the protocol of a loaded one, the one that a user writes, and its name in a report": {"Model"},
    "a frame between a worker and its parent, which nobody else sees": {
        "Announcer", "Failed", "Order", "Said", "Start", "Stop", "Window",
    },
    "of the pipeline, and of the console or the health app, which are programs of their own": {
        "Answer", "Driver", "Life", "Likelihood", "Pace", "Place", "Refused", "State", "Stretch", "Taken", "Tally",
        "Unsettled", "Verdict", "Watch", "Watchdog", "Work",
    },
    "of dead letters, and of files or the input": {"Closed", "Job", "Kind", "Line", "Note", "Reason", "Row", "Target"},
    "what one part finds, counts or cannot take, each in its own terms": {
        "Asked", "Bin", "Ends", "Finding", "Histogram", "Hour", "Point", "Refusal", "Saved", "Series", "Tokens",
        "TopicInfo",
    },
    "of two benchmarks": {"Event", "Measured", "Requests"},
}  # fmt: skip


def shared(sources: dict[str, str]) -> set[str]:
    """The names of public classes that two modules define, given each module's source by its path in the package."""
    found: Counter[tuple[str, str]] = Counter()
    for path, text in sources.items():
        part = path.partition("/")[0]
        owner = part if part in BESIDE else "the product"
        classes = (node.name for node in ast.parse(text).body if isinstance(node, ast.ClassDef))
        found.update((owner, name) for name in classes if not name.startswith("_"))
    return {name for (_, name), times in found.items() if times > 1}


def test_no_two_public_classes_share_a_name() -> None:
    """But for those that are known; one that is shared no more is known no more."""
    sources = {path.relative_to(PACKAGE).as_posix(): path.read_text() for path in PACKAGE.rglob("*.py")}
    assert shared(sources) == set().union(*KNOWN.values())


def test_a_name_that_is_shared_is_found() -> None:
    """Within the product, and within one part beside it; private names are a module's own."""
    two = "class Two: ...\nclass _Own: ...\n"
    assert shared({"core/a.py": two, "kafka/b.py": two}) == {"Two"}
    assert shared({"bench/a.py": two, "bench/b.py": two}) == {"Two"}
    assert shared({"core/a.py": two, "bench/b.py": two, "demo/c.py": two}) == set()
