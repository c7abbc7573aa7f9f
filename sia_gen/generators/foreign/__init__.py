"""Generators that others trained, as networks of our own that their weights fit, and the readers of their files."""
