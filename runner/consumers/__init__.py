"""The durable consumers that a function reads: which they are, and that they stay as they should be."""
