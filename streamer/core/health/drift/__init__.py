"""How far windows are from their baseline, and whether chance explains that."""
