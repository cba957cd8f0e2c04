"""The pure part: decisions over values. No clock, thread, socket, logger or random number in it."""
