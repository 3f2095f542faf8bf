"""`runner message`: shows what became of messages."""
