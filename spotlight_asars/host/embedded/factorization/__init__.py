"""Factorization models, which represent a user by a vector."""
