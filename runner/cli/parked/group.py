"""The commands of `runner parked`."""

from __future__ import annotations

from runner.cli.group import LazyGroup

parked_group = LazyGroup(
    "parked",
    help="Keys that wait behind a message that was given up: run it once more, or skip it.",
    epilog="Example: runner parked list",
    lazy={
        "list": (
            "runner.cli.parked.list:list_command",
            "Show what each key waits behind, and how much waits.",
        ),
        "retry": ("runner.cli.parked.retry:retry_command", "Run a key's head once more, then what waits."),
        "skip": ("runner.cli.parked.skip:skip_command", "Give a key's head up, and run what waits."),
    },
)
