"""`runner deadletter`: messages that were given up."""
