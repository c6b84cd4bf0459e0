"""Where batches go: sans-IO encoding and thin shells around it."""
