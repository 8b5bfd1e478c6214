"""The machinery behind audits: counts and tails, thresholds, noise families, e-processes, pages."""
