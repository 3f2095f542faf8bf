"""Examines a server for `runner doctor`: its release, clock, rights, streams, durables, and what is left of functions.

Rule: nothing is changed. A right is tried with a request that the server refuses for another reason: its body is not JSON, or it is
      a message for a stream with another name.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from runner.bindings import Binding
from runner.core import identity
from runner.core.doctor import clock, durable, leftovers, rights, server, stream
from runner.core.doctor.finding import Finding
from runner.core.doctor.stream import Use
from runner.core.streams.capture import capture
from runner.core.streams.plan import function_of
from runner.errors import JetrunnerError, PermissionDenied, ServerError
from runner.jetstream import openevents, schedules
from runner.jetstream.concurrent import map_concurrently
from runner.jetstream.connection import Connection
from runner.jetstream.listing import listed
from runner.jetstream.messages import subjects
from runner.jetstream.ownstreams import DEADLETTERS, GATHER, PARKED, STREAMS
from runner.jetstream.permission import Permission
from runner.jetstream.server import OLDEST_SERVER, release
from runner.streams.plan import subjects_of_streams

TRY_SECONDS = 1.0
"""How long a try waits for its answer: with the right, the request may reach nobody who answers."""
OURS = ("$JS.API.", "$JS.ACK.", "$KV.", "$JETRUNNER.", "deadletters.", "parked.")
"""Beginnings of the subjects that are tried: on any other subject, somebody may take the try for a message."""
NOBODY = "JETRUNNER-DOCTOR"
"""The stream that messages of a try are for: it does not exist."""
NO_JSON = b"{"


class Patient(Struct, frozen=True):
    """The server and the project that are examined."""

    connection: Connection
    project: str
    functions: Sequence[Binding]
    rights: Sequence[Permission]
    """The rights that `runner run` needs."""


async def examine(patient: Patient) -> list[Finding]:
    """All findings. Raises JetrunnerError if the server does not answer."""
    connection, reading = patient.connection, [each for each in patient.functions if each.answers is None]
    version = connection.server_version
    crons = [each.function for each in reading if each.schedule is not None]
    found = [*server.of_release(version, release(version), OLDEST_SERVER, crons, schedules.SERVER)]
    found += server.of_account(await connection.api("INFO"))
    streams = (await listed(connection, "STREAM.LIST", "streams")).whole()
    found += clock.of_offset(*await _offset(connection))
    found += rights.of_denied(await denied(connection, patient.rights))
    try:
        durables = {
            name: (await listed(connection, f"CONSUMER.LIST.{name}", "consumers")).whole() for name in streams
        }
        left = await _gone(patient, durables)
    except PermissionDenied as error:
        durables, left = {}, {}
        found += rights.of_unseen(str(error))
    found += _of_streams(streams, durables, reading, clustered=connection.clustered)
    found += _of_durables(durables, reading, patient.project)
    found += leftovers.of_gone(left)
    return found


async def _offset(connection: Connection) -> tuple[float, float]:
    """How many seconds our clock is ahead of the server's, and by how many seconds that may be wrong."""
    began = time.monotonic()
    await connection.api("STREAM.LIST", {"offset": 0})
    return time.time() - connection.clock.now(), time.monotonic() - began


async def denied(connection: Connection, needed: Sequence[Permission]) -> list[tuple[str, str]]:
    """The subjects that may not be published to, each with the purpose for which it is needed."""
    tried = [each for each in needed if each.side == "publish" and each.subject.startswith(OURS)]
    log = logging.getLogger("jetrunner.connection")
    level = log.level
    log.setLevel(logging.ERROR)  # it would log a line for each refusal

    async def is_denied(each: Permission) -> bool:
        subject = each.subject.replace("*", "doctor").replace(">", "doctor")
        pairs = None if subject.startswith("$JS.API.") else [("Nats-Expected-Stream", NOBODY)]
        body = NO_JSON if subject.startswith("$JS.API.") else b""
        try:
            await connection.request(subject, body, TRY_SECONDS, pairs)
        except PermissionDenied:
            return True
        except ServerError:
            pass
        return False

    try:
        refused = await map_concurrently(is_denied, tried)
    finally:
        log.setLevel(level)
    return [(each.subject, each.why) for each, no in zip(tried, refused, strict=True) if no]


def _of_streams(
    streams: Mapping[str, Mapping[str, Any]],
    durables: Mapping[str, Mapping[str, Mapping[str, Any]]],
    functions: Sequence[Binding],
    *,
    clustered: bool,
) -> Iterator[Finding]:
    known = subjects_of_streams((), {name: dict(info["config"]) for name, info in streams.items()})
    read: dict[str, list[Use]] = {}
    written: dict[str, list[Use]] = {}
    for binding in functions:
        use = Use(binding.function, binding.retry.span(binding.timeout), bool(binding.ordered_by))
        output = binding.output.wildcard if binding.output is not None else ""
        for uses, subject in (
            (read, binding.subject.wildcard if binding.reads_stream else ""),
            (written, output),
        ):
            try:
                if subject:
                    chosen = binding.stream if uses is read else None
                    name = capture(subject, known, chosen=chosen, publishing=uses is written)
                    uses.setdefault(name, []).append(use)
            except JetrunnerError:
                continue  # `runner check` tells of the error
    for name, info in sorted(streams.items()):
        config, there = info["config"], durables.get(name, {})
        yield from stream.of_input(name, config, read.get(name, ()), len(there))
        yield from stream.of_output(name, config, written.get(name, ()))
        if name in read or name in written or name in STREAMS:
            yield from stream.of_limits(name, config, info["state"])
            yield from stream.of_replicas(name, config, clustered=clustered)


def _of_durables(
    durables: Mapping[str, Mapping[str, Mapping[str, Any]]], functions: Sequence[Binding], project: str
) -> Iterator[Finding]:
    by_name = {each.durable or identity.durable(project, each.function): each for each in functions}
    by_function = {each.function: each for each in functions}
    for infos in durables.values():
        for name, info in sorted(infos.items()):
            binding = by_name.get(name) or by_function.get(function_of(name, project) or "")
            alone = binding is not None and binding.schedule is not None and binding.overlap == "skip"
            if binding is not None:
                yield from durable.of_consumer(name, binding.function, info, 1 if alone else binding.most)


async def _gone(
    patient: Patient, durables: Mapping[str, Mapping[str, Mapping[str, Any]]]
) -> dict[str, dict[str, int]]:
    """What functions that are not in the code have left: by function, how many there are of each kind of thing."""
    connection, project = patient.connection, patient.project
    here = {each.function for each in patient.functions}
    taken = {each.durable for each in patient.functions}
    found: dict[str, dict[str, int]] = {}

    def note(function: str | None, what: str, count: int = 1) -> None:
        if function is not None and function not in here:
            things = found.setdefault(function, {})
            things[what] = things.get(what, 0) + count

    for infos in durables.values():
        for name in infos:
            if name not in taken:
                note(function_of(name, project), "durable")
    for function in await schedules.functions_of(connection, project):
        note(function, "schedule")
    for stream_name, pattern, place, what in (
        (DEADLETTERS, identity.dead_subject(project, "*"), 2, "dead letter"),
        (PARKED, f"parked.{project}.*.>", 2, "parked message"),
        (GATHER, f"{identity.event_subject(project, '*', '*')}.state", 3, "split event"),
    ):
        async for subject, count in subjects(connection, stream_name, pattern):
            note(subject.split(".")[place], what, count)
    for function, waiting in (await openevents.waiting(connection, project)).items():
        note(function, "split event that waits", waiting.events)
    return found
