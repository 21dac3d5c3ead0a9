"""Worked examples that are small enough to run on a laptop."""
