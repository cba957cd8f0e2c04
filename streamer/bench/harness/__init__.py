"""What benchmarks share: where they run, what they feed and run against, and how they say what came of it."""
