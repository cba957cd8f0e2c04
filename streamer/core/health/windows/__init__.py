"""What reports say of the records that came, summed into windows of time."""
