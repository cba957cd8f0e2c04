"""How a plan is settled, call by call: what comes next after each answer and each error, for both guarantees.

Nothing is called in here. A generator yields a `Call`, is sent the answer or thrown the error, and returns the fact
that the pipeline is told. `kafka/` runs it against librdkafka and `testing/` against a log in memory, so that the
simulation plays the very steps that a cluster sees.
"""
