"""Lines instead of topics: the source and sink of `streamer infer`."""
