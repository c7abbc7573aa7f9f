"""The recipes of the shipped generators."""
