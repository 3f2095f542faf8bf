"""The commands of `runner function`."""

from __future__ import annotations

from runner.cli.group import LazyGroup

function_group = LazyGroup(
    "function",
    help="List functions, call one without NATS, or remove what one has left.",
    epilog="Example: runner function list",
    lazy={
        "list": ("runner.cli.function.list:list_command", "Show every function and what feeds it."),
        "invoke": ("runner.cli.function.invoke:invoke_command", "Call a function here, without NATS."),
        "forget": (
            "runner.cli.function.forget:forget_command",
            "Remove what a function that is gone has left.",
        ),
    },
)
