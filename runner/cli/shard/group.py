"""The commands of `runner shard`."""

from __future__ import annotations

from runner.cli.group import LazyGroup

shard_group = LazyGroup(
    "shard",
    help="Show who owns the shards of ordered functions, and change their number.",
    epilog="Example: runner shard list",
    lazy={
        "list": ("runner.cli.shard.list:list_command", "Show each shard's owner and what waits in it."),
        "resize": ("runner.cli.shard.resize:resize_command", "Give a stream another number of shards."),
    },
)
