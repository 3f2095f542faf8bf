"""The commands of `runner deadletter`."""

from __future__ import annotations

from runner.cli.group import LazyGroup

deadletter_group = LazyGroup(
    "deadletter",
    help="Browse dead letters, send them back, or drop them.",
    epilog="Example: runner deadletter list --since 1h",
    lazy={
        "list": ("runner.cli.deadletter.list:list_command", "Show the dead letters of the project."),
        "show": ("runner.cli.deadletter.show:show_command", "Show one with its body and traceback."),
        "drop": ("runner.cli.deadletter.drop:drop_command", "Remove dead letters for good."),
        "redrive": (
            "runner.cli.deadletter.redrive:redrive_command",
            "Send dead letters back to their function.",
        ),
    },
)
