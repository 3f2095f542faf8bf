"""Declared streams: their files, the plan, apply, and the consumers on them."""
