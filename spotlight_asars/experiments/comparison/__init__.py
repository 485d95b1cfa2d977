"""Comparisons: systems trained on one log and measured side by side."""
