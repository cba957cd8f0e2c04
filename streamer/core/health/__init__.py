"""Model health: reports folded to windows, and what is judged of them."""
