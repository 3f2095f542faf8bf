"""`runner function`: the project's functions."""
