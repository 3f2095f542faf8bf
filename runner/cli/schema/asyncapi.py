"""`runner schema asyncapi`: prints a project's subjects as AsyncAPI."""

from __future__ import annotations

import click

from runner.cli import code, options, printed
from runner.schemas import asyncapi


@click.command("asyncapi", epilog="Example: runner schema asyncapi > asyncapi.json")
@options.project_options
def asyncapi_command() -> None:
    """Print the subjects that functions read, publish to and answer on, as AsyncAPI 3.0."""
    place = options.place()
    project = code.load(place.root, place.settings.name or None)
    click.echo(printed.data(asyncapi.document(project)))
