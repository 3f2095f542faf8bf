"""`runner shard`: who owns what, and another number of shards."""
