"""Benchmarks as a GPU would have given them: constructed, not recorded. See ``making`` for where each rate is from."""
