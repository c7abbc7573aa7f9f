"""Ways to find directions in a generator that nobody labelled: each gives an attribute space."""
