"""Dataset cards: the README.md of a dataset, for people and for Hugging Face datasets.

card.py: what every card has; generation.py, training_set.py, scores.py, tokens.py, packaged_set.py: what each
job adds.
"""
