"""Experiments on a log: the comparison of the paper's section 3."""
