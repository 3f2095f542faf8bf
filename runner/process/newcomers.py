"""Warns before the start of functions that are new on the server, and may be old functions under another name."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from runner.bindings import Binding
from runner.core import identity
from runner.core.streams.plan import function_of
from runner.errors import JetrunnerError
from runner.jetstream.inventory import consumers_on
from runner.jetstream.newcomers import stored, suspected
from runner.jetstream.reshard import GenerationStore
from runner.runtime.runtime import Runtime

log = logging.getLogger("jetrunner.durables")

PATIENCE_SECONDS = 2.0


async def warn_of_newcomers(
    runtime: Runtime, placed: Sequence[tuple[Binding, str]], functions: Sequence[Binding]
) -> None:
    """Log each function that would run old messages again, as far as the server tells. `functions` are all of the project's."""
    known = {each.function for each in functions}
    streams: dict[str, list[Binding]] = {}
    for binding, stream in placed:
        if binding.deliver != "new" and binding.schedule is None:
            streams.setdefault(stream, []).append(binding)
    for stream, bindings in streams.items():
        try:
            durables = await consumers_on(runtime.connection, stream, PATIENCE_SECONDS)
        except JetrunnerError as error:
            log.debug("cannot check which functions are new on %s: %s", stream, error)
            continue
        for binding in bindings:
            try:
                told = await _told(runtime, binding, stream, known, durables)
            except JetrunnerError as error:
                log.debug("cannot check whether %s is new: %s", binding.label, error)
                continue
            if told:
                log.warning("%s", told)


async def _told(
    runtime: Runtime, binding: Binding, stream: str, known: set[str], durables: Sequence[Mapping[str, Any]]
) -> str:
    durable = binding.durable or identity.durable(runtime.project, binding.function)
    if any(
        each["name"] == durable or function_of(each["name"], runtime.project) == binding.function
        for each in durables
    ):
        return ""
    if not durables and binding.label == binding.function:
        return ""  # there is no durable that may have been its own
    if await _has_been(runtime, binding, stream, durable):
        return ""  # its durable was deleted: it goes on where it was
    waiting = await stored(runtime.connection, stream, binding.subject.wildcard)
    return suspected(binding, waiting, runtime.project, known, durables) if waiting else ""


async def _has_been(runtime: Runtime, binding: Binding, stream: str, durable: str) -> bool:
    if not binding.ordered_by:
        return await runtime.floors.last(stream, durable) is not None
    current, _ = await GenerationStore(runtime.connection, runtime.project).read(binding.function)
    return current is not None and current.stream == stream
