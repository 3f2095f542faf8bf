"""`runner parked`: commands for keys that wait behind a message that was given up."""
