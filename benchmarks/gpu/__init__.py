"""What one GPU does: throughput, memory, numerics and a real job, in minutes. See `__main__`."""
