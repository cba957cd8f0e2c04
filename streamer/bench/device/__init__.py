"""What a device does: how fast one worker is there, and whether it answers as a CPU does. Prepared for the day a GPU is
there; all of it runs on a CPU too, with small models."""
