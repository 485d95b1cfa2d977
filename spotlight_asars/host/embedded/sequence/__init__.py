"""Sequence models, which predict the next item from the preceding ones."""
