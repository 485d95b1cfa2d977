"""Comparison of systems that are trained and tested on the same log."""
