"""Checks before a start. Adapters gather facts (`ports`), rules make findings of them, one file a noun."""
