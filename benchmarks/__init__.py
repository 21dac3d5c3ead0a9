"""One script a claim: each writes its result as JSON, with commit, hardware and settings."""
