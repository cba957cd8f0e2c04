"""The operators' web page: what the pipelines do, why there are dead letters, and replays of these."""
