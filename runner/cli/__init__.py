"""The `runner` command: the only code that prints.

Rule 1: data goes to stdout, everything else to stderr; an error ends with `error:` and, where there is one, `hint:`. With
        `--output json` the error that ends a command is one line of JSON, the last on stderr.
Rule 2: exit 0 ok, 1 failed, 2 wrong usage, settings or user code, 3 NATS unreachable; 130 after Ctrl-C.
Rule 3: a command's module is imported when the command is asked for, so that `runner --help` is quick.
"""

from __future__ import annotations

import click

from runner.cli.group import Program

main = Program(
    "runner",
    help="Run Python functions on NATS JetStream.",
    epilog="Start with: runner new shop && cd shop && runner dev",
    lazy={
        "apply": (
            "runner.cli.apply:apply_command",
            "Make the streams on the server what the project declares.",
        ),
        "check": ("runner.cli.check:check_command", "Import and validate everything, without a server."),
        "deadletter": (
            "runner.cli.deadletter.group:deadletter_group",
            "Browse dead letters, send them back, or drop them.",
        ),
        "dev": ("runner.cli.dev:dev_command", "Run with a server of its own, and again at every change."),
        "doctor": ("runner.cli.doctor:doctor_command", "Look for what will hurt, and tell its remedy."),
        "function": ("runner.cli.function.group:function_group", "List functions, or call one without NATS."),
        "gateway": ("runner.cli.gateway:gateway_command", "Serve HTTP: functions with @route, and routes."),
        "message": ("runner.cli.message.group:message_group", "Show what became of a message."),
        "new": ("runner.cli.new:new_command", "Make a project that runs."),
        "parked": (
            "runner.cli.parked.group:parked_group",
            "Keys that wait: run the head once more, or skip it.",
        ),
        "permissions": (
            "runner.cli.permissions:permissions_command",
            "Print the least NATS permissions that are needed.",
        ),
        "plan": ("runner.cli.plan:plan_command", "Show what `apply` would change."),
        "publish": ("runner.cli.publish:publish_command", "Store messages in a stream."),
        "request": ("runner.cli.request:request_command", "Ask a service, and print its answer."),
        "run": ("runner.cli.run:run_command", "Run the project's functions until told to stop."),
        "schedule": (
            "runner.cli.schedule.group:schedule_group",
            "Show when functions fire next, or fire one now.",
        ),
        "schema": (
            "runner.cli.schema.group:schema_group",
            "Print what functions take and give, as OpenAPI or AsyncAPI.",
        ),
        "shard": (
            "runner.cli.shard.group:shard_group",
            "Show who owns which shard, and change their number.",
        ),
        "trace": ("runner.cli.trace.group:trace_group", "Show a trace as a waterfall."),
        "status": ("runner.cli.status:status_command", "Show functions, instances and what waits."),
    },
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
main = click.version_option(package_name="jetrunner", prog_name="runner")(main)
