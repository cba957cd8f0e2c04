"""What made the data and models in streamer/demo: run from a checkout, and no part of the package."""
