"""The machinery behind private training: per-example gradients, batches, noise, books of a run."""
