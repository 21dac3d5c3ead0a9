"""What the engine itself costs, without models: planning, resuming, manifests, scheduling. See `__main__`."""
