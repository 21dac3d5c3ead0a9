"""Look at the rows and images of a job's output in a browser: an index of its columns, and a small server."""
