"""What all functions of one process share."""
