"""`runner function list`: the bindings of a project."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from runner.bindings import Binding
from runner.cli import code, options, printed
from runner.cli.table import show
from runner.core import identity


@click.command("list", epilog="Example: runner function list --output json")
@options.output_option
@options.project_options
def list_command(output: str) -> None:
    """Show every function of the project: what feeds it, where its results go, and where it is written.

    `ship (pack)` means: the function is called ship in the code, and pack in NATS (`renamed_from=`). Commands take either name.
    """
    place = options.project()
    project = code.load(place.root, place.settings.name or None)
    found = [described(binding, project.name, project.root) for binding in project.functions]
    if output == "json":
        click.echo(printed.data(found))
        return
    rows = [
        [
            each["name"] if each["renamed_from"] is None else f"{each['name']} ({each['renamed_from']})",
            each["schedule"] or each["subject"],
            each["output"] or ("the asker" if each["answers"] else "the client" if each["route"] else "-"),
            str(each["attempts"]),
            f"{each['timeout']:g} s",
            str(each["concurrency"]),
            ", ".join(each["ordered_by"]) or "-",
            "-" if each["answers"] or each["route"] else each["on_exhausted"],
            f"{each['file']}:{each['line']}",
        ]
        for each in found
    ]
    heads = [
        "FUNCTION", "SUBJECT OR SCHEDULE", "OUTPUT", ">ATTEMPTS", ">TIMEOUT", ">CONCURRENCY", "ORDERED BY", "ON EXHAUSTED", "WHERE",
    ]  # fmt: skip
    show(heads, rows)
    if not rows:
        click.echo("no function yet: decorate one in functions/ with @consume", err=True)


def described(binding: Binding, project: str, root: Path) -> dict[str, Any]:
    """A binding as plain values."""
    file = Path(binding.file)
    return {
        "name": binding.label,
        "renamed_from": binding.function if binding.function != binding.label else None,
        "subject": binding.subject.text,
        "schedule": binding.schedule.line if binding.schedule is not None else None,
        "answers": binding.answers is not None,
        "route": binding.route.text if binding.route is not None else None,
        "idempotent": binding.answers.idempotent if binding.answers is not None else None,
        "overlap": binding.overlap if binding.schedule is not None else None,
        "joins": binding.joins is not None,
        "expires": binding.joins.expires if binding.joins is not None else None,
        "max_bytes": binding.joins.max_bytes if binding.joins is not None else None,
        "executor": "process" if binding.in_process else None,
        "output": binding.output.text if binding.output else None,
        "stream": binding.stream,
        "durable": None
        if not binding.consumes
        else binding.durable or identity.durable(project, binding.function),
        "kind": binding.kind,
        "attempts": binding.retry.attempts,
        "timeout": binding.timeout,
        "concurrency": binding.concurrency,
        "batch": binding.batch or None,
        "batch_by": binding.batch_by if binding.batch and binding.ordered_by else None,
        "ordered_by": list(binding.ordered_by),
        "on_exhausted": binding.on_exhausted,
        "max_age": binding.max_age,
        "deliver": binding.deliver,
        "file": str(file.relative_to(root)) if file.is_relative_to(root) else binding.file,
        "line": binding.line,
    }
