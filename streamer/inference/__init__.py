"""The processes that run the model. The driver's side (`pool`, `spec`) imports neither torch nor transformers."""
