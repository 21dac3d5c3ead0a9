"""What has to do with clusters: submitting jobs to one, and asking it whether a job will run there."""
