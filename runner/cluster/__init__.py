"""Which instances live, which instance owns which shard, and which generation of shards is open."""
