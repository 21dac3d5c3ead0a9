"""Meissonic, a non-autoregressive masked-image-modelling text-to-image model."""
