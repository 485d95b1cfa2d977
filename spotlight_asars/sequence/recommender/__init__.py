"""What every system shares: recommending, explaining, parameters, and what a fitted system keeps."""
