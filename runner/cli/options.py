"""Options that many commands share: where the project is, where NATS is, how to print.

`connected` adds them to a command; `place` joins the options that were given with the project's settings.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click
from msgspec import Struct, structs

from runner import devserver
from runner.cli import logs
from runner.config import Settings, load_settings, redact
from runner.devserver import FUNCTIONS, find_root
from runner.errors import UsageError

log = logging.getLogger("jetrunner")

F = TypeVar("F", bound=Callable[..., Any])

_HANDED_URL = "_JETRUNNER_GIVEN_NATS_URL"
"""The variable in which a worker gets the URL of its parent's command line: all users of the machine can read arguments, not these."""
_KEY = "runner.cli.given"


class Workplace(Struct, frozen=True):
    """Where a command works: the project's folder and its settings."""

    root: Path
    settings: Settings
    given: Mapping[str, Any]
    """The settings that were given on the command line."""
    nats_is_set: bool
    """Whether a NATS address was set; else it is the default, or the server of a running `runner dev`."""


def project_options(command: F) -> F:
    """Add `-C/--project`, `--log-level` and `--log-format` to a command."""
    for option in (
        _option("--log-format", metavar="FORMAT", help="text, or json: a document a line."),
        _option("--log-level", metavar="LEVEL", help="debug, info, warning, error or critical."),
        PROJECT,
    ):
        command = option(command)
    return command


def connected(command: F) -> F:
    """Add the options of a command that connects to NATS."""
    for option in reversed(NATS):
        command = option(command)
    return project_options(command)


def output_option(command: F) -> F:
    """Add `--output text|json` to a command, which gets it as `output`."""
    return click.option(
        "--output",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        help="How to print data.",
    )(command)


def place(*, dev_server: bool = True, **more: Any) -> Workplace:
    """The workplace of the current command; it also sets up the log.

    `more` are settings among the command's own options; None: not given. With `dev_server`, the address is that of a running
    `runner dev`, if no other is set. Raises UsageError for a folder that does not exist, SettingsError for a wrong setting.
    """
    known = dict(click.get_current_context().meta.get(_KEY, {}))
    handed = os.environ.pop(_HANDED_URL, None)  # before a program that a handler starts could inherit it
    if handed:
        known["nats_url"] = handed
    given = {key: value for key, value in {**known, **more}.items() if value is not None and key != "project"}
    root = find_root(Path(known.get("project", ".")))
    settings = load_settings(root, given)
    logs.configure(settings.log_level, settings.log_format)
    if not handed and redact(url := given.get("nats_url", "")) != url:
        log.warning(
            "the credentials in --nats-url can be read by every user of this machine (ps): "
            "set NATS_URL, or name a context with --nats-context"
        )
    is_set = devserver.is_elsewhere(settings, given)
    if dev_server and not is_set and (url := devserver.address(root)):
        settings = structs.replace(settings, nats_url=url)
    return Workplace(root, settings, given, is_set)


def project(*, dev_server: bool = True, **more: Any) -> Workplace:
    """`place` for a command that works only in a project. Raises UsageError outside of one."""
    found = place(dev_server=dev_server, **more)
    for what, there in (
        ("pyproject.toml", (found.root / "pyproject.toml").is_file()),
        (f"{FUNCTIONS}/", (found.root / FUNCTIONS).is_dir()),
    ):
        if not there:
            raise UsageError(
                f"there is no project in {found.root}: it has no {what}",
                hint="go into its folder or give --project DIR; `runner new NAME` makes one that runs",
            )
    return found


def arguments(place: Workplace) -> list[str]:
    """The workplace as command-line arguments for a process that this one starts; the process needs `environment`, too."""
    found = ["--project", str(place.root)]
    for key, value in place.given.items():
        if (key.startswith("nats_") and key != "nats_url") or key in ("log_level", "log_format"):
            option = "--" + key.replace("_", "-")
            found += [option] if value is True else [option, str(value)]
    return found


def environment(place: Workplace) -> dict[str, str]:
    """The environment variables for that process: a NATS URL counts there as if it stood on its command line."""
    url = place.given.get("nats_url")
    return {_HANDED_URL: str(url)} if url else {}


def _remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    if value is not None and param.name is not None:
        ctx.meta.setdefault(_KEY, {})[param.name] = value


def _option(*names: str, **options: Any) -> Callable[[F], F]:
    return click.option(*names, expose_value=False, callback=_remember, default=None, **options)


PROJECT = _option(
    "-C",
    "--project",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The project's folder; the current one, or the nearest above it, by default.",
)
NATS = (
    _option("--nats-url", metavar="URL", help="Where NATS is; several with commas."),
    _option("--nats-creds", metavar="FILE", help="A credentials file."),
    _option("--nats-context", metavar="NAME", help="A context of the `nats` command."),
    _option("--nats-tls-ca", metavar="FILE", help="The authority that signed the server's certificate."),
    _option("--nats-tls-cert", metavar="FILE", help="A client certificate."),
    _option("--nats-tls-key", metavar="FILE", help="Its key."),
    _option("--nats-tls-first", is_flag=True, help="Begin with TLS, before the server's first word."),
)
