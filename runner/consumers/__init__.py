"""The durable consumers that a function reads: this room finds or makes them, and keeps their settings as they should be."""
