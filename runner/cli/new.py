"""`runner new`: makes a project that runs."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from runner.cli import options, printed
from runner.cli.requirement import PACKAGE
from runner.cli.scaffold import files
from runner.core import identity
from runner.errors import UsageError


@click.command("new", epilog="Example: runner new shop && cd shop && runner dev")
@click.argument("name")
@options.output_option
def new_command(name: str, output: str) -> None:
    """Make a folder NAME with a function, its streams, settings and a test."""
    folder = Path(name)
    project = _project_name(folder.resolve().name)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{name} is there already", hint="choose another name, or an empty folder")
    written = files(project)
    try:
        for path, text in written.items():
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{error.filename}: {error.strerror}") from None
    if output == "json":
        click.echo(printed.data({"name": project, "folder": str(folder.resolve()), "files": sorted(written)}))
    else:
        for path in sorted(written):
            click.echo(str(folder / path))
    click.echo(f"next: cd {shlex.quote(name)} && runner dev", err=True)


def _project_name(text: str) -> str:
    """A name for the project that both the server and Python's installers accept. Raises UsageError."""
    try:
        name = identity.project_name(text)
    except ValueError as error:
        raise UsageError(str(error), hint="for example: runner new shop") from None
    if not (name[0].isalnum() and name[-1].isalnum()) or name == PACKAGE:
        raise UsageError(
            f"{text!r} is not a name for a project",
            hint="letters, digits, - and _, a letter or digit at both ends: runner new shop",
        )
    return name
