"""`runner check`: imports and validates everything that a project declares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import click

from runner.bindings import Binding
from runner.cli import circles, code, edgecheck, explain, failure, handovers, loop, options, printed, returns
from runner.cli.function.invoke import named
from runner.cli.options import Workplace
from runner.cli.session import session
from runner.cli.table import counted
from runner.core.streams.capture import StreamSubjects, capture
from runner.core.streams.config import DeclaredStream, merged
from runner.errors import JetrunnerError, Outdated, UsageError
from runner.gathers import unfed
from runner.hooks import Hook
from runner.jetstream.connection import Connection
from runner.process import served
from runner.process.resolve import clashing
from runner.services.service import require_apart
from runner.streams.consumers import uncaptured
from runner.streams.plan import load_streams, plan_streams, real_streams, subjects_of_streams
from runner.streams.schedules import plan_schedules

T = TypeVar("T")

TWO_YEARS = 2 * 366
"""In days; every change of a time zone's clock happens at least once in two years."""


@click.command("check", epilog="Example: runner check --nats-url nats://nats.internal:4222")
@click.option("--explain", "name", metavar="FUNCTION", help="Say what is promised for a function, and why.")
@options.output_option
@options.connected
def check_command(name: str | None, output: str) -> int:
    """Import the functions, read streams and settings, and print everything that is wrong.

    Without a server, a subject must be captured by a declared stream. With --nats-url or --nats-context, streams on the server
    count, too, and changes that cannot be applied are reported. Exit 2 when something is wrong.
    """
    place = options.project()
    check = Check(place)
    if place.given.get("nats_url") or place.given.get("nats_context"):
        loop.run(check.on_server)
    else:
        check.offline()
    if name is not None and not check.problems:
        _explain(check, name, output)
        return 0
    if output == "json":
        click.echo(printed.data(check.document()))
    for warning in check.warnings:
        failure.warn(warning)
    for problem in check.problems:
        failure.say(str(problem), problem.hint)
    if output == "text" and not check.problems:
        found = [counted(len(check.functions), "function")]
        found += [counted(len(check.hooks), "hook")] if check.hooks else []
        found += [counted(len(check.streams), "stream")]
        found += [counted(len(check.warnings), "warning") if check.warnings else "all well"]
        click.echo(f"{place.settings.name}: {', '.join(found)}")
    return max((problem.exit_code for problem in check.problems), default=0)


def _explain(check: Check, name: str, output: str) -> None:
    binding = named(check.functions, name)
    promises = explain.explain(binding, check.known, check.streams)
    if output == "json":
        click.echo(printed.data(explain.document(binding, promises)))
        return
    for line in explain.lines(binding, promises):
        click.echo(click.wrap_text(line, 100, subsequent_indent="    ") if line else "")


class Check:
    """What a project declares, and the problems and warnings that were found."""

    def __init__(self, place: Workplace) -> None:
        self.place = place
        self.problems: list[JetrunnerError] = []
        self.warnings: list[str] = []
        self.streams: Sequence[DeclaredStream] = self._tried(lambda: load_streams(place.root), ())
        project = self._tried(lambda: code.load(place.root, place.settings.name or None), None)
        self.functions: Sequence[Binding] = project.functions if project is not None else ()
        self.hooks: Sequence[Hook] = project.hooks if project is not None else ()
        self._sound = not self.problems
        self.known: Sequence[StreamSubjects] = ()
        """The subjects of the streams with which the functions were compared."""

    def offline(self) -> None:
        """Compare functions with the declared streams alone."""
        if not self._sound:
            return  # errors that follow from a missing file or module would only hide that one
        declared = {stream.name for stream in self.streams}
        here = [binding for binding in self.functions if binding.stream is None or binding.stream in declared]
        for binding in self.functions:
            if binding not in here:
                self.warnings.append(
                    f"{binding.function} reads the stream {binding.stream}, which is not declared here; "
                    "check it with --nats-url"
                )
        self._compare(here, subjects_of_streams(self.streams))

    async def on_server(self) -> None:
        """Compare functions with declared and real streams, and declared with real ones."""
        async with session(self.place.settings) as connection:
            plan = await plan_streams(connection, self.streams, self.place.settings.name)
            known = subjects_of_streams(self.streams, await real_streams(connection))
            schedules = await self._schedules(connection) if self._sound else []
        for stream in plan.refused:
            for change in stream.changes:
                if change.safety == "unsafe":
                    self.problems.append(UsageError(f"{stream.file}: {change.field}: {change.why}"))
        if plan.changed or schedules:
            names = ", ".join([*(stream.name for stream in plan.changed), *schedules])
            self.warnings.append(f"not yet applied: {names} (runner apply)")
        if self._sound:
            self._compare(self.functions, known)

    async def _schedules(self, connection: Connection) -> list[str]:
        """The schedules that differ between the code and the server."""
        try:
            plans = await plan_schedules(connection, self.place.settings.name, self.functions)
        except Outdated as error:
            self.problems.append(error)
            return []
        return [f"the schedule of {each.function}" for each in plans if each.action != "same"]

    def _compare(self, functions: Sequence[Binding], known: Sequence[StreamSubjects]) -> None:
        self.known = known
        self.problems.extend(
            UsageError(str(error), hint=error.hint) for error in uncaptured(functions, known)
        )
        self.problems.extend(require_apart(functions))
        if not self.problems:
            reading = [each for each in functions if each.reads_stream]
            placed = [(each, capture(each.subject.wildcard, known, chosen=each.stream)) for each in reading]
            self.problems.extend(clashing(placed, known))
        self.warnings.extend(circles.warnings(functions))
        self.warnings.extend(
            f"the hook {each.name} runs around no function: its module has none"
            for each in self.hooks
            if self.functions and not any(each.surrounds(binding) for binding in self.functions)
        )
        self.warnings.extend(
            f"{each.function} joins the parts that come on {each.subject.text}, and no function of this project splits a message to there: "
            "what is not a part is a dead letter"
            for each in unfed(functions)
        )
        self.warnings.extend(handovers.warnings(functions))
        edge = edgecheck.check(self.place.settings, functions, known)
        self.problems.extend(edge.problems)
        self.warnings.extend(edge.warnings)
        streams = [(each.name, each.subjects) for each in known]
        self.warnings.extend(
            served.warning(each, found)
            for each in functions
            if each.answers is not None and (found := served.stored(each.subject.wildcard, streams))
        )
        for binding in functions:
            self.warnings.extend(returns.warnings(binding))
            if warning := _left_out(binding):
                self.warnings.append(warning)
            if warning := _unsharded(binding, known):
                self.warnings.append(warning)
            if warning := _forgetful(binding, known, self.streams):
                self.warnings.append(warning)

    def _tried(self, act: Callable[[], T], otherwise: T) -> T:
        try:
            return act()
        except JetrunnerError as error:
            self.problems.extend(error.parts or (error,))
            return otherwise

    def document(self) -> dict[str, Any]:
        """The result as data, for `--output json`."""
        return {
            "ok": not self.problems,
            "project": self.place.settings.name,
            "functions": [binding.label for binding in self.functions],
            "hooks": [{"name": hook.name, "scope": hook.scope} for hook in self.hooks],
            "streams": [stream.name for stream in self.streams],
            "problems": [{"message": str(problem), "hint": problem.hint} for problem in self.problems],
            "warnings": self.warnings,
        }


def _unsharded(binding: Binding, known: Sequence[StreamSubjects]) -> str:
    """A warning when a function keeps order on a stream that is not sharded."""
    if not binding.ordered_by:
        return ""
    try:
        source = binding.stream or capture(binding.subject.wildcard, known)
    except JetrunnerError:
        return ""
    if not any(each.name == source and each.sharding is None for each in known):
        return ""
    return f"{binding.function} keeps order, and {source} has no [shards]: one instance at a time handles it"


def _left_out(binding: Binding) -> str:
    """A warning when the clock of a schedule's zone skips a firing."""
    if binding.schedule is None:
        return ""
    skipped = next(binding.schedule.left_out(datetime.now(UTC).date(), TWO_YEARS), None)
    if skipped is None:
        return ""
    return (
        f"{binding.function} does not fire at {skipped:%Y-%m-%d %H:%M}: the clock of {binding.schedule.timezone} skips an hour "
        "that day; another hour, or UTC, fires each day"
    )


def _forgetful(binding: Binding, known: Sequence[StreamSubjects], declared: Sequence[DeclaredStream]) -> str:
    """A warning when a function may still retry after the stream of its outputs has forgotten the first attempt's message ids."""
    if binding.output is None:
        return ""
    try:
        target = capture(binding.output.wildcard, known, publishing=True)
    except JetrunnerError:
        return ""
    stream = next((each for each in declared if each.name == target), None)
    if stream is None:
        return ""
    window = merged(stream, None).get("duplicate_window", 0) / 1e9
    horizon = binding.retry.span(binding.timeout)
    if horizon <= window:
        return ""
    return (
        f"{binding.function} may retry for {horizon:,.0f} s, but {target} ({stream.file}) recognises duplicates for "
        f"{window:,.0f} s only: raise its duplicate_window"
    )
