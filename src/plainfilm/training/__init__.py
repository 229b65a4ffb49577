"""Training: options, batches, the loop, checkpoints. Import from the modules; the options load no torch."""
