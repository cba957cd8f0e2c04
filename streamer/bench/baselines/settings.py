"""What the ways are called in which others embed texts."""

ARRIVAL, SORTED, SENTENCE = "transformers, as they come", "transformers, sorted", "sentence-transformers"
