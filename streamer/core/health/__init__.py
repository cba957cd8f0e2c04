"""Model health: what reports and labels say of a model, as sums that merge, and what is judged of them. No I/O."""
