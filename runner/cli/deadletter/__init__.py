"""`runner deadletter`: commands for messages that were given up."""
