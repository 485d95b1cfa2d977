"""Tuning: settings searched on a split inside the training part."""
