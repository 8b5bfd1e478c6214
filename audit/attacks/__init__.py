"""Attacks, one a file: from what a trainer releases to a score for every canary."""
