"""Benchmarks: what `streamer` adds to a loop of one's own, measured side by side on one machine in one run."""
