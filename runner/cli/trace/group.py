"""The commands of `runner trace`; what is no command's name is the id of a trace."""

from __future__ import annotations

import click

from runner.cli.group import LazyGroup

SHOW = "show"


class _TraceGroup(LazyGroup):
    """`runner trace ID` is `runner trace show ID`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the command's name before what has none."""
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
