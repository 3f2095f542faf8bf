"""Decisions: pure functions of values, without I/O, clock or random numbers."""
