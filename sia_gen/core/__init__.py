"""What every rank stands on: images, seeds, modules, files, errors, executors. Knows nothing of faces."""
