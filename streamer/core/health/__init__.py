"""Model health: what reports and labels say of a model, as sums that merge. No clock, no thread, no I/O."""
