"""Search for the settings of a system, on a split inside the training part."""
