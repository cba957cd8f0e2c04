"""Checks before a start. Adapters look around (`ports`), rules make findings of them, one file a noun."""
