"""Labels in the app: read, joined with their results, remembered, and told as windows."""
