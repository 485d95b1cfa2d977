"""Models that predict the next item from the sequence of items before it."""
