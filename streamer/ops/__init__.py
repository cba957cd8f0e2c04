"""What operators do: short-lived programs beside the pipelines, given their readers and writers."""
