"""How right answers are: what is counted of them and their labels, as sums that merge, and the numbers that follow."""
