"""streamer: run a language model over a Kafka stream, in real time, and lose nothing.

`streamer.infer` asks a model about texts, from Python and without Kafka; `streamer.testing` tests one's own model.
"""

from typing import TYPE_CHECKING

from streamer.lazy import exports

__version__ = "0.1.0"
__all__ = ["DeadLetter", "DeadLetterError", "Published", "Result", "__version__", "infer"]

if TYPE_CHECKING:
    from streamer.app.iterate import infer
    from streamer.app.outcomes import DeadLetter, DeadLetterError, Published, Result
else:
    _OUTCOMES = "streamer.app.outcomes"
    __getattr__ = exports(
        __name__,
        {
            "infer": "streamer.app.iterate",
            **dict.fromkeys(("DeadLetter", "DeadLetterError", "Published", "Result"), _OUTCOMES),
        },
    )
