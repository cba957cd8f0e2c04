"""From records to events: what a valid one is, in each format, and what is wrong with another."""
