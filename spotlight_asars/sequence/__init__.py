"""Session-aware sequence models, their nets, and the baselines they are compared with."""
