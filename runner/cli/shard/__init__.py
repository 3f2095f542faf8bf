"""`runner shard`: shows who owns which shard, and changes the number of shards."""
