"""The commands of `runner schedule`."""

from __future__ import annotations

from runner.cli.group import LazyGroup

schedule_group = LazyGroup(
    "schedule",
    help="Show when functions with @cron fire next, or fire one now.",
    epilog="Example: runner schedule list",
    lazy={
        "list": ("runner.cli.schedule.list:list_command", "Show each schedule and its next firing."),
        "fire": ("runner.cli.schedule.fire:fire_command", "Fire a function now."),
    },
)
