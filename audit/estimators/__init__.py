"""Estimators, one a file: from scores and coins to a lower bound of ε."""
