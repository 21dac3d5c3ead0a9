"""Curation: raw images are scored once, duplicates found, a recipe decides, a training set is written."""
