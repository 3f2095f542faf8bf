"""Who lives, who owns which shard, and which generation of shards is open."""
