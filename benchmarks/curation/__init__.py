"""Curation measured: a corpus with planted faults, a plain baseline, and how many faults were found."""
