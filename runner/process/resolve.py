"""Finds the stream that each function reads. One error tells all that is wrong, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runner.bindings import Binding
from runner.core.streams.capture import StreamSubjects, capture, clashes
from runner.core.streams.config import DeclaredStream
from runner.errors import JetrunnerError, UsageError, several
from runner.jetstream.listing import incomplete
from runner.jetstream.ownstreams import AGAIN
from runner.jetstream.topology import Topology
from runner.streams.consumers import uncaptured
from runner.streams.plan import load_streams, subjects_of_streams

APPLY = "run `runner apply`"


def places(
    bindings: Sequence[Binding], real: Mapping[str, Mapping[str, Any]], root: Path
) -> list[tuple[Binding, str]]:
    """Each function with the name of its stream; `real` holds the configurations on the server.

    Functions without a durable are left out. Raises one UsageError for all subjects and outputs that lack a stream.
    """
    known = subjects_of_streams((), real)
    declared: Sequence[DeclaredStream] | None = None
    errors: list[JetrunnerError] = []
    for binding in bindings:
        if wrong := uncaptured([binding], known):
            declared = _declared(root) if declared is None else declared
            errors += _explained(binding, wrong, subjects_of_streams(declared, real))
        elif problem := _not_atomic(binding, known, real):
            errors.append(problem)
    if errors:
        raise several(errors)
    placed = [
        (
            each,
            AGAIN if each.schedule is not None else capture(each.subject.wildcard, known, chosen=each.stream),
        )
        for each in bindings
        if each.consumes
    ]
    if errors := clashing(placed, known):
        raise several(errors)
    return placed


def clashing(placed: Sequence[tuple[Binding, str]], known: Sequence[StreamSubjects]) -> list[JetrunnerError]:
    """An error for each pair of functions that would read the same messages of a work queue."""
    queues = {each.name for each in known if each.work_queue}
    where = {binding.function: f"{binding.file}:{binding.line}" for binding, _ in placed}
    reading = [(binding.function, binding.subject.wildcard, stream) for binding, stream in placed]
    return [
        UsageError(
            f"{where[second]}: {second} reads messages that {first} reads ({where[first]}), and {stream} is a work queue: "
            "each message of it is for one function",
            hint=f'give them subjects that do not overlap, or set retention = "limits" for {stream}',
        )
        for first, second, stream in clashes(reading, queues)
    ]


async def places_now(
    topology: Topology, bindings: Sequence[Binding], root: Path
) -> list[tuple[Binding, str]]:
    """`places` with the streams on the server. Raises `Incomplete` if an error may be due to a stream that the server's list lacks."""
    await topology.load()
    try:
        return places(bindings, topology.streams, root)
    except JetrunnerError as error:
        if topology.lacking:
            raise incomplete("streams", topology.lacking, str(error)) from None
        raise


def _explained(
    binding: Binding, wrong: Sequence[JetrunnerError], applied: Sequence[StreamSubjects]
) -> list[JetrunnerError]:
    """The errors, with the stream files in mind: if the files solve them, only `runner apply` is missing."""
    lasting = uncaptured([binding], applied)
    if lasting:
        return [UsageError(str(error), hint=error.hint) for error in lasting]
    return [UsageError(f"{error} yet", hint=APPLY) for error in wrong]


def _not_atomic(
    binding: Binding, known: Sequence[StreamSubjects], real: Mapping[str, Mapping[str, Any]]
) -> JetrunnerError | None:
    if binding.output is None or not binding.kind.endswith("generator"):
        return None
    target = capture(binding.output.wildcard, known, publishing=True)
    if real.get(target, {}).get("allow_atomic"):
        return None
    return UsageError(
        f"{binding.place}: stream {target} allows no atomic batches, which a generator's output needs",
        hint=f"set allow_atomic = true in its file and {APPLY}",
    )


def _declared(root: Path) -> Sequence[DeclaredStream]:
    try:
        return load_streams(root)
    except UsageError:
        return ()  # `plan` and `apply` tell what is wrong in a stream file
