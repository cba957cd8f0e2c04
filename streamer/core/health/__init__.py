"""Model health: what the reports of pipelines say, summed over stretches of time. No clock, no I/O."""
