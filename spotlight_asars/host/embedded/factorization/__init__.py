"""Models that predict items from a vector for each user."""
