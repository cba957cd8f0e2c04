"""Dead letters for operators: find them, and move or close them, given a log to read and a copier to write."""
