"""The machinery behind the accountants: curves, profiles, bins, tilted convolution, error ledger."""
