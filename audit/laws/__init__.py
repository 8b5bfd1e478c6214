"""Laws, one family of designs a file: scores that are private to a known extent, for a test bench of auditors."""
