"""The pipeline's decisions: `Pipeline.handle(input, now)` returns the commands that the driver executes."""
