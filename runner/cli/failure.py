"""Failures: what is told of an exception, and the exit code it becomes."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator

import click

from runner.cli import logs
from runner.core import shown
from runner.errors import JetrunnerError

INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""


def tell(error: BaseException) -> int:
    """Tell a failure on stderr, and give the exit code."""
    error = _chosen(error)
    match error:
        case SystemExit(code=code):
            return code if isinstance(code, int) else 0 if code is None else 1
        case click.exceptions.Exit():
            return error.exit_code
        case click.Abort() | KeyboardInterrupt():
            return INTERRUPTED
        case BrokenPipeError():
            # Whoever read us has seen enough; without this the interpreter would complain once more at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        case click.exceptions.NoArgsIsHelpError():
            click.echo(error.format_message(), err=True)
            return error.exit_code
        case click.UsageError():
            path = error.ctx.command_path if error.ctx else "runner"
            say(error.format_message(), f"{path} --help")
            return error.exit_code
        case click.ClickException():
            say(error.format_message())
            return error.exit_code
        case JetrunnerError():
            _trace(error)
            say(str(error), error.hint)
            return error.exit_code
        case _:
            _trace(error)
            text = str(error)
            say(f"{type(error).__name__}: {text}" if text else type(error).__name__)
            return 1


def say(message: str, hint: str = "") -> None:
    """Write `error:` and `hint:` to stderr; of several lines, each but the first is indented."""
    click.echo(f"{click.style('error:', fg='red', bold=True)} {_indented(message, 7)}", err=True)
    if hint:
        advise(hint)


def advise(hint: str) -> None:
    """Write a `hint:` alone."""
    click.echo(f"{click.style('hint:', fg='cyan', bold=True)} {_indented(hint, 6)}", err=True)


def warn(text: str) -> None:
    """Write a `warning:` alone."""
    click.echo(f"{click.style('warning:', fg='yellow', bold=True)} {_indented(text, 9)}", err=True)


def _indented(text: str, columns: int) -> str:
    """Text of others may be in it: no line of it begins as one of ours does."""
    return shown.block(text, " " * columns).lstrip(" ")


def _trace(error: BaseException) -> None:
    if logs.debugging():
        click.echo(shown.block("".join(traceback.format_exception(error)).rstrip("\n"), "  "), err=True)


def _chosen(error: BaseException) -> BaseException:
    """The one to tell of what a task group collected: ours first, then Ctrl-C, then whatever came first."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    found = list(_leaves(error))
    for kind in (JetrunnerError, KeyboardInterrupt, SystemExit, BrokenPipeError):
        for leaf in found:
            if isinstance(leaf, kind):
                return leaf
    return found[0]


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
