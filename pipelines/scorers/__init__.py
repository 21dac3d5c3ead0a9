"""Scorers: each adds one column and drops nothing. One file a scorer."""
