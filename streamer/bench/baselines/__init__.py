"""What `streamer` is measured against: loops as people write them, each a program of its own."""
