"""Model health: what reports say about a model, judged. Pure: values and times in, values out."""
