"""Papers as lists of checked claims: one file a paper, `python -m papers` compares all of them with this library."""
