"""Checks before a start. Adapters look around, rules make findings of it, `examine` asks one after the other."""
