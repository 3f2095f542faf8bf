"""Failures: what is told of an exception, and the exit code it becomes."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from itertools import pairwise

import click

from runner.cli import logs, printed
from runner.core import shown
from runner.errors import JetrunnerError

INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""


def wants_json(arguments: Sequence[str]) -> bool:
    """Whether a command line asks for JSON, whether or not the rest of it can be read."""
    return "--output=json" in arguments or ("--output", "json") in pairwise(arguments)


def tell(error: BaseException, *, as_json: bool = False) -> int:
    """Tell the failure that ends the command on stderr, in words or as one line of JSON, and give the exit code."""
    error = _chosen(error)

    def end(code: int, message: str, hint: str = "") -> int:
        if as_json:
            facts = {"message": message, "hint": hint or None, "exit_code": code}
            click.echo(printed.data({"error": facts}, indent=None), err=True)
        else:
            say(message, hint)
        return code

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
            return end(error.exit_code, error.format_message(), f"{path} --help")
        case click.ClickException():
            return end(error.exit_code, error.format_message())
        case JetrunnerError():
            _trace(error)
            return end(error.exit_code, str(error), error.hint)
        case _:  # a fault of ours: where it came from is what a report of it needs
            _trace(error, always=True)
            text = str(error)
            return end(1, f"{type(error).__name__}: {text}" if text else type(error).__name__)


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


def _trace(error: BaseException, *, always: bool = False) -> None:
    if always or logs.debugging():
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
