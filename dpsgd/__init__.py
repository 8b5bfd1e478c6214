"""dpsgd."""
