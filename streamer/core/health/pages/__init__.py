"""What the console and `streamer health report` show of the health topic."""
