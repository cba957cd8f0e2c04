"""Dead letters: how a record that can't have a result is kept, byte for byte, with the reason beside it."""
