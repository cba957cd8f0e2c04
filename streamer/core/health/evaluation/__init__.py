"""What an evaluation of labelled files comes to, of one model or of two side by side."""
