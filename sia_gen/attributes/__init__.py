"""Attributes: named, human-readable axes of a generator, and the ways to find them."""
