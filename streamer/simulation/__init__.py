"""Whole pipelines, simulated: many seeds, each a life full of faults, and the laws checked at every step.

Nothing in here waits: virtual time, one event queue, one random generator. A seed gives the same run every time.
"""
