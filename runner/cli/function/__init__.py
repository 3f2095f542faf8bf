"""`runner function`: commands for the project's functions."""
