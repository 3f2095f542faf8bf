"""`runner shard resize`: gives a stream another number of shards."""

from __future__ import annotations

import time
from typing import Any

import anyio
import click
import msgspec

from runner.cli import failure, loop, options, printed
from runner.cli.functions import ordered_functions, removal
from runner.cli.session import session
from runner.cli.table import counted
from runner.cluster.resize import Progress, Resize
from runner.core import shown
from runner.core.sharding import Sharding
from runner.core.streams.shards import Shards
from runner.errors import JetrunnerError, ServerError
from runner.jetstream.server import check_server
from runner.streams.plan import load_streams

LOOK_SECONDS = 0.25
TELL_SECONDS = 2.0


class ShardCount(click.IntRange):
    """A number of shards; if it was given before the stream, the error names the right order."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number. Raises click.UsageError."""
        stream = ctx.params.get("stream") if ctx is not None else None
        if ctx is not None and isinstance(stream, str) and stream.isdecimal() and not str(value).isdecimal():
            raise click.UsageError(f"the stream comes first: {ctx.command_path} {value} {stream}", ctx)
        number: int = super().convert(value, param, ctx)
        return number


@click.command("resize", epilog="Example: runner shard resize LEDGER 32")
@click.argument("stream")
@click.argument("count", type=ShardCount(min=1, max=1024))
@click.option("--wait/--no-wait", default=True, help="Wait until every function works on the new shards.")
@options.output_option
@options.connected
def resize_command(stream: str, count: int, wait: bool, output: str) -> None:
    """Give a stream another number of shards, or other tokens to shard by, without losing order.

    COUNT is the new number. The tokens are `by` in the stream's file; without a file they stay the same. New messages are stored in
    a new generation of shards. Each ordered function drains the old shards, and then goes on with the new ones; other functions
    notice nothing. If this command is interrupted, the drain goes on: run the command again with the same number to watch it.
    """
    place = options.place()
    project = place.settings.name
    functions = ordered_functions(place.root, project)
    declared = next((each for each in load_streams(place.root) if each.name == stream), None)
    tokens = declared.shards if declared is not None else None

    async def main() -> dict[str, Any]:
        async with session(place.settings) as connection:
            await check_server(connection)
            resize = Resize(connection, stream, project, functions)
            return await _resize(resize, count, tokens, Telling(project), wait=wait)

    try:
        found = loop.run(main)
    except KeyboardInterrupt:
        click.echo("the drain goes on; the same command shows it again", err=True)
        raise
    if output == "json":
        click.echo(printed.data(found))
    if declared is not None and declared.shards is not None and declared.shards.count != count:
        failure.advise(
            f"set count = {count} under [shards] in {declared.file}: `runner plan` compares the two"
        )
    for function in found["functions"]:
        if function["state"] == "gone":
            failure.advise(removal(function["function"]))


async def _resize(
    resize: Resize, count: int, declared: Shards | None, telling: Telling, *, wait: bool
) -> dict[str, Any]:
    began = time.monotonic()
    before = now = await resize.now()
    progress = await resize.look(now)
    by = declared.positions if declared is not None else before.positions
    if (count, by) != (before.count, before.positions):
        _refuse(resize.stream, before, progress)
        now = await resize.change(count, by if by != before.positions else ())
        click.echo(f"{resize.stream}: {_difference(before, now, declared)}", err=True)
        progress = await _look(resize, now, telling)
    elif not _under_way(progress):
        shards = counted(count, "shard")
        click.echo(f"{resize.stream} has {shards} already, generation {now.generation}", err=True)
    telling.tell(progress, now)
    while wait and _under_way(progress):
        await anyio.sleep(LOOK_SECONDS)
        progress = await _look(resize, now, telling)
        telling.tell(progress, now)
    return {
        "stream": resize.stream,
        "generation": now.generation,
        "count": now.count,
        "changed": now != before,
        "by": _names(now, declared),
        "before": {
            "generation": before.generation,
            "count": before.count,
            "by": _names(before, declared),
        },
        "functions": msgspec.to_builtins(progress),
        "seconds": round(time.monotonic() - began, 3),
    }


def _difference(before: Sharding, now: Sharding, declared: Shards | None) -> str:
    shards = counted(now.count, "shard")
    parts = [shards if now.count == before.count else f"{before.count} → {shards}"]
    if now.positions != before.positions:
        old, new = (" and ".join(_names(each, declared)) for each in (before, now))
        parts.append(f"by {old} → {new}")
    return ", ".join([*parts, f"generation {now.generation}"])


def _names(sharding: Sharding, declared: Shards | None) -> list[str]:
    """The names of the key's tokens in the stream's file; `token 2` and so on without a file."""
    names = dict(zip(declared.positions, declared.by, strict=True)) if declared is not None else {}
    return [names.get(place, f"token {place + 1}") for place in sharding.positions]


async def _look(resize: Resize, now: Sharding, telling: Telling) -> list[Progress]:
    """How far each function is; ask again until the server answers, because the drain goes on meanwhile."""
    while True:
        try:
            return await resize.look(now)
        except ServerError as error:
            telling.doubt(str(error))
            await anyio.sleep(LOOK_SECONDS)


def _under_way(progress: list[Progress]) -> bool:
    return any(each.state not in ("open", "gone") for each in progress)


def _refuse(stream: str, now: Sharding, progress: list[Progress]) -> None:
    """Raise JetrunnerError while another change is under way: there is only one at a time."""
    under_way = [
        each
        for each in progress
        if each.state != "gone" and (each.left or (each.instances and each.state != "open"))
    ]
    if not under_way:
        return
    what = ", ".join(f"{each.function} has {counted(each.left, 'message')} left" for each in under_way)
    idle = [each for each in under_way if not each.instances]
    raise JetrunnerError(
        f"{stream} is still on its way to {counted(now.count, 'shard')}: {what} in older generations",
        hint=(
            f"start {' and '.join(each.function for each in idle)} (runner run); "
            + "; ".join(removal(each.function) for each in idle)
            if idle
            else f"wait for it: runner shard resize {stream} {now.count} shows how far it is"
        ),
    )


class Telling:
    """Prints to stderr what has changed, and every 2 s what is left.

    A function that has nothing left goes on at once, so it is printed only if it has not after 2 s.
    """

    def __init__(self, project: str) -> None:
        self._project = project
        self._told: dict[tuple[str, str], Progress] = {}
        self._began = time.monotonic()
        self._at = 0.0
        self._doubt = ""

    def tell(self, progress: list[Progress], now: Sharding) -> None:
        """Print what is new."""
        due = time.monotonic() - self._at >= TELL_SECONDS
        early = time.monotonic() - self._began < TELL_SECONDS
        for each in progress:
            if early and each.state in ("draining", "waiting") and not each.left:
                continue
            name = (each.project, each.function)
            told = self._told.get(name)
            same = told is not None and (told.state, told.generation) == (each.state, each.generation)
            if same and (not due or each == told):
                continue
            self._told[name] = each
            self._at = time.monotonic()
            click.echo(shown.line(f"{self._called(each)}: {_sentence(each, now)}"), err=True)

    def doubt(self, reason: str) -> None:
        """Print once that the progress cannot be seen now, and why."""
        if reason != self._doubt:
            self._doubt = reason
            click.echo(shown.line(f"how far it is cannot be seen: {reason}"), err=True)

    def _called(self, each: Progress) -> str:
        return each.function if each.project == self._project else f"{each.function} of {each.project}"


def _sentence(each: Progress, now: Sharding) -> str:
    left = counted(each.left, "message")
    match each.state:
        case "open":
            return f"works on generation {now.generation}"
        case "draining":
            return f"drains generation {each.generation}, {left} left"
        case "waiting":
            return f"{left} left in generation {each.generation}, and no instance runs it"
        case "gone":
            return f"is not waited for: no ordered function of {each.project}, and no instance runs it; {left} left"
