"""A world of coloured shapes whose captions can be checked, and a tiny Meissonic trained on it."""
