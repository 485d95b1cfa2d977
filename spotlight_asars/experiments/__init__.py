"""Experiments on a log: train, compare, tune and analyse, as in section 3 of the paper."""
