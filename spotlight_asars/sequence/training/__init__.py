"""Training: the trainer, its callbacks, negatives, initial embeddings, resuming and data-parallel jobs."""
