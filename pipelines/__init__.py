"""Ray programs as importable functions: the engine of units, storage, and one module a pipeline."""
