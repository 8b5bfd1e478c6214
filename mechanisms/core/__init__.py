"""The machinery behind the mechanisms: bounds, process tree, pairs, sampling, randomness."""
