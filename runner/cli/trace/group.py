"""The commands of `runner trace`; a word that is no command's name is the ID for `show`."""

from __future__ import annotations

import click

from runner.cli.group import LazyGroup

SHOW = "show"


class _TraceGroup(LazyGroup):
    """Takes `runner trace ID` for `runner trace show ID`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `show` before arguments that begin with no command's name."""
        if args and args[0] not in self.commands and not {"--help", "-h"} & set(args[:1]):
            args = [SHOW, *args]
        return super().parse_args(ctx, args)


trace_group = _TraceGroup(
    "trace",
    help="A trace as a waterfall: `runner trace ID`. Or `bridge`, which adds what NATS servers did with messages.",
    epilog="Example: runner trace ORDERS:17",
    lazy={
        SHOW: ("runner.cli.trace.show:show_command", "Show a trace as a waterfall; `show` may be left out."),
        "bridge": (
            "runner.cli.trace.bridge:bridge_command",
            "Turn what servers tell of messages into spans.",
        ),
    },
)
