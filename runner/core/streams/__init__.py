"""Decisions about stream files."""
