"""Prints failures, and gives the exit code of each exception."""

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
"""The exit code after Ctrl-C: 128 and the number of SIGINT, as in shells."""


def wants_json(arguments: Sequence[str]) -> bool:
    """Whether a command line asks for JSON, even if the rest of it is wrong."""
    return "--output=json" in arguments or ("--output", "json") in pairwise(arguments)


def tell(error: BaseException, *, as_json: bool = False) -> int:
    """Print the failure that ends the command to stderr, in words or as one line of JSON, and return the exit code."""
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
            # The program that read our output has closed the pipe; without this the interpreter would report that again at its end.
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
        case _:  # a fault of ours: a report of it needs the traceback
            _trace(error, always=True)
            text = str(error)
            return end(1, f"{type(error).__name__}: {text}" if text else type(error).__name__)


def say(message: str, hint: str = "") -> None:
    """Write `error:` and `hint:` to stderr; all lines of a text after its first are indented."""
    click.echo(f"{click.style('error:', fg='red', bold=True)} {_indented(message, 7)}", err=True)
    if hint:
        advise(hint)


def advise(hint: str) -> None:
    """Write a `hint:` to stderr."""
    click.echo(f"{click.style('hint:', fg='cyan', bold=True)} {_indented(hint, 6)}", err=True)


def warn(text: str) -> None:
    """Write a `warning:` to stderr."""
    click.echo(f"{click.style('warning:', fg='yellow', bold=True)} {_indented(text, 9)}", err=True)


def _indented(text: str, columns: int) -> str:
    """The text with all lines after the first indented: text of others in it cannot look like a line of ours."""
    return shown.block(text, " " * columns).lstrip(" ")


def _trace(error: BaseException, *, always: bool = False) -> None:
    if always or logs.debugging():
        click.echo(shown.block("".join(traceback.format_exception(error)).rstrip("\n"), "  "), err=True)


def _chosen(error: BaseException) -> BaseException:
    """The error to print of those that a task group has collected: one of ours, else Ctrl-C, else the first."""
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
