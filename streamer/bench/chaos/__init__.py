"""Faults on real brokers, members and workers, while a checker watches what subscribers see."""
