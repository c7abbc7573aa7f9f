"""Recipes that make the shipped weights: resumable, seeded, one command each."""
