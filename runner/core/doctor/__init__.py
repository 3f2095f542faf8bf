"""Checks of a server's answers for settings that will cause trouble: pure functions, one subject a file."""
