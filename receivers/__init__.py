"""Where batches come from: sans-IO parsing and thin shells around it."""
