"""The commands of `runner message`."""

from __future__ import annotations

from runner.cli.group import LazyGroup

message_group = LazyGroup(
    "message",
    help="What became of a message.",
    epilog="Example: runner message show ORDERS:17",
    lazy={
        "show": (
            "runner.cli.message.show:show_command",
            "Show what each function has done with a message, or does.",
        ),
    },
)
