"""Is the model still right? Sums that merge, and what they say; no clock, no thread, no I/O."""
