"""The version of the library; pyproject.toml reads it from here."""

VERSION = "0.1.0"
