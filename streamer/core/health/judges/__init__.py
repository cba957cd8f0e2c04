"""What holds one answer to its label, a judge for each kind of answer."""
