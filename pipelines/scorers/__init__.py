"""Scorers: each adds columns and drops nothing. One file a scorer."""
