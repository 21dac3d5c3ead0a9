"""Training: the samples of each step, the workers that run the steps, checkpoints, what is exported."""
