"""`runner parked`: keys that wait behind a message that was given up."""
