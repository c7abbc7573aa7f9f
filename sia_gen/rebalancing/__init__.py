"""Filling in the classes that a data set lacks: generated faces of them, and what else is done about imbalance."""
