"""Decisions about streams: the fields of their files, and which changes are safe."""
