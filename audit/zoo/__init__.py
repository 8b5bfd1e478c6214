"""Documented bugs of differential privacy, one a file: each with its source, what is broken, and its correct twin.

A file defines `SPECIMEN`; nothing else is edited. `python -m audit zoo` runs every detector on each and its twin.
"""
