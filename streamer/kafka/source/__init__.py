"""Reading the input as a member of the group: one thread, what it asks of the client, and what is watched meanwhile."""
