"""One shard of an ordered function: its lanes, its settlements on record, its parked keys."""
