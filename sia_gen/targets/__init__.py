"""Targets: models under audit, and the tasks that say when they fail."""
