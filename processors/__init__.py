"""What batches pass through, one file each."""
