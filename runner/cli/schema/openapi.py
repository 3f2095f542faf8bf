"""`runner schema openapi`: prints a project's HTTP edge as OpenAPI."""

from __future__ import annotations

from pathlib import Path

import click

from runner.cli import code, options, printed
from runner.gateway import routefile
from runner.schemas import openapi


@click.command("openapi", epilog="Example: runner schema openapi --routes routes/ > openapi.json")
@click.option(
    "--routes",
    "route_files",
    metavar="FILE",
    multiple=True,
    help="A file or folder of Ingress and HTTPRoute manifests; may be repeated.",
)
@options.project_options
def openapi_command(route_files: tuple[str, ...]) -> None:
    """Print the HTTP edge as OpenAPI 3.1: functions with @route, and routes that are declared.

    Types, docstrings and defaults are those of the functions. A path of an Ingress appears alone, although it also takes all paths
    below it.
    """
    place = options.place(route_files=route_files or None)
    project = code.load(place.root, place.settings.name or None)
    declared = routefile.read(
        [Path(each) for each in place.settings.route_files], routefile.services(project.functions)
    )
    for remark in declared.remarks:
        click.echo(remark, err=True)
    routes = (*place.settings.routes, *declared.routes)
    click.echo(printed.data(openapi.document(project, routes, place.settings.auth)))
