"""Checks before a start. Adapters gather facts, rules make findings of them, `examine` asks one after the other."""
