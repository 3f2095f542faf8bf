"""Benchmarks beside other clients; `python -m benchmarks --help`, and README.md for the method."""
