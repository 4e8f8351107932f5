"""The last good rate of each asset, kept for every process and every start."""
