"""Objects that all functions of one process share."""
