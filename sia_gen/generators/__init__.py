"""Generators: codes (+ edits) → images. `load_generator` finds one by name."""
