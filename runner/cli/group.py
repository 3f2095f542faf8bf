"""Groups of commands, whose modules are imported when they are needed, and the program, which reports every failure."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from importlib import import_module
from typing import Any, NoReturn

import click

from runner.cli.unbuffered import write_whole


class Commands(MutableMapping[str, click.Command]):
    """Commands by name; those of `lazy` (name → "module:attribute" and a line of help) are imported when they are asked for."""

    def __init__(self, lazy: Mapping[str, tuple[str, str]]) -> None:
        self.lazy = dict(lazy)
        self._loaded: dict[str, click.Command] = {}

    def __getitem__(self, name: str) -> click.Command:
        if name not in self._loaded:
            module, _, attribute = self.lazy[name][0].partition(":")
            self._loaded[name] = getattr(import_module(module), attribute)
        return self._loaded[name]

    def __setitem__(self, name: str, command: click.Command) -> None:
        self._loaded[name] = command

    def __delitem__(self, name: str) -> None:
        del self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({*self.lazy, *self._loaded}))

    def __len__(self) -> int:
        return len({*self.lazy, *self._loaded})

    def __contains__(self, name: object) -> bool:
        return name in self.lazy or name in self._loaded


class LazyGroup(click.Group):
    """A group that lists its commands without importing them."""

    def __init__(self, name: str, *, lazy: Mapping[str, tuple[str, str]], **options: Any) -> None:
        super().__init__(name, commands=Commands(lazy), **options)
        self._lazy = lazy

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one line of help for each command."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in sorted(self._lazy.items())])


class Program(LazyGroup):
    """The command `runner`: it reports every failure in one way, and exits with its code."""

    def __call__(self, *args: Any, **options: Any) -> NoReturn:
        """Run the command line and exit; the number that a command returns is the exit code."""
        write_whole()
        if "NO_COLOR" in os.environ:
            options.setdefault("color", False)
        try:
            code = self.main(*args, **{"prog_name": "runner", "standalone_mode": False, **options})
        except BaseException as error:  # noqa: BLE001  the last place that can report it
            from runner.cli.failure import tell, wants_json  # noqa: PLC0415  only after a failure

            given = args[0] if args else options.get("args")
            code = tell(error, as_json=wants_json(sys.argv[1:] if given is None else given))
        sys.exit(code if isinstance(code, int) else 0)
