"""streamer: run a language model over a Kafka stream, in real time, and lose nothing."""

__version__ = "0.1.0"
