"""The story of a message as plain values: what each function has done with it, its outputs, and what became of them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from runner.bindings import Binding
from runner.cli import functions, times
from runner.cli.message.known import known, target
from runner.config import Settings
from runner.core import header, identity, origin, sharding, story, traceparent
from runner.core.holding import Held, Question
from runner.core.origin import Origin
from runner.core.redaction import Rules
from runner.core.story import Story
from runner.core.storyfacts import Hand
from runner.errors import JetrunnerError, PermissionDenied, UsageError
from runner.jetstream import codes, outputs
from runner.jetstream.connection import Connection
from runner.jetstream.inquired import Inquired, InstanceAnswers, hands
from runner.jetstream.inquiry import Inquiry
from runner.jetstream.inventory import consumers_on, real_streams, stream_info
from runner.jetstream.messages import leader_message
from runner.jetstream.outputs import FoundOutput, Search
from runner.jetstream.readers import KnownFunction, ReadingFunction, readers
from runner.pipeline import delayed
from runner.runtime.snapshots import collect
from runner.values import did_you_mean

MOST = 100
"""Most messages that one command follows; further outputs are named only."""
PATIENCE_SECONDS = 5.0
SEARCH_SECONDS = 10.0  # for the search for all outputs that one command shows


class FollowLimits(Struct, frozen=True):
    """How far outputs are followed."""

    depth: int
    """How many steps from a message to its outputs are followed."""
    breadth: int
    """Most outputs of one function that are followed."""


class Stories:
    """Tells the stories of messages; the list of streams and the code are read once."""

    def __init__(self, connection: Connection, root: Path, settings: Settings, limits: FollowLimits) -> None:
        self._connection = connection
        self._root = root
        self._settings = settings
        self._rules = Rules.of(settings.redact)
        self._limits = limits
        self._streams: dict[str, dict[str, Any]] = {}
        self._code: tuple[Binding, ...] | None = None
        self._instances: dict[str, set[str]] = {}
        """The instances that have answered before, by project."""
        self._told: dict[tuple[str, int], bool] = {}
        self._until = 0.0
        """When the search for outputs ends, by the monotonic clock; 0.0 before it has begun."""

    async def load(self) -> None:
        """Read the list of streams, and the code at hand."""
        self._streams = await real_streams(self._connection, PATIENCE_SECONDS)
        if self._settings.name:
            self._code = functions.all_functions(self._root, self._settings.name)

    async def info(self, stream: str) -> dict[str, Any]:
        """The server's info on a stream. Raises UsageError if the stream does not exist."""
        info = await stream_info(self._connection, stream)
        if info is None:
            hint = (
                did_you_mean(stream, self._streams)
                or f"there are: {', '.join(sorted(self._streams)) or 'none'}"
            )
            raise UsageError(f"there is no stream {stream}", hint=hint)
        return info

    def bindings(self, stream: str) -> list[KnownFunction]:
        """The functions of the code at hand that may read a stream."""
        return known(stream, self._settings.name, self._code, ())

    async def of(self, stream: str, sequence: int) -> dict[str, Any]:
        """The story of one message. Raises JetrunnerError if it is not stored yet."""
        info = await self.info(stream)
        last = int(info["state"]["last_seq"])
        if not 0 < sequence <= last:
            held = f"the last one there is {stream}:{last}" if last else "it holds nothing yet"
            raise JetrunnerError(
                f"{stream}:{sequence} is not stored yet: {held}",
                hint=f"runner message show {stream} --since 1h",
            )
        return await self._story(info, stream, sequence, self._limits.depth)

    async def _story(self, info: Mapping[str, Any], stream: str, sequence: int, depth: int) -> dict[str, Any]:
        self._told[stream, sequence] = True
        stored = await leader_message(self._connection, stream, {"seq": sequence}, codes.NOTHING_STORED)
        about = Inquired(stream, sequence, stored, info)
        consumers = await consumers_on(self._connection, stream, PATIENCE_SECONDS)
        inquiry = Inquiry(self._connection, about, self._rules)
        found = [
            await self._function(inquiry, reader, answers, depth)
            for reader, answers in await self._readers(about, consumers)
        ]
        document = self._message(about)
        return document | {"functions": [each for each in found if self._worth(each, about)]}

    def _worth(self, function: Mapping[str, Any], about: Inquired) -> bool:
        """Whether a function is shown: for a message that is gone, whose subject is not known, only one that knows something of it."""
        return about.stored is not None or function["state"] != "gone" or bool(function["durable"])

    async def _readers(
        self, about: Inquired, consumers: Sequence[Mapping[str, Any]]
    ) -> list[tuple[ReadingFunction, InstanceAnswers]]:
        """The functions that read the message, each with what the instances of its project say of it."""
        own, subject = self._settings.name, about.stored.subject if about.stored is not None else None
        question = Question(about.stream, about.sequence)
        snapshots = {own: await self._ask(own, question)} if own else {}
        what = known(about.stream, own, self._code, snapshots.get(own, []))
        every = readers(own, subject, consumers, what)
        for project in {each.project for each in every} - snapshots.keys():
            snapshots[project] = await self._ask(project, question)
        answers = {project: hands(told, _held(told)) for project, told in snapshots.items()}
        return [(each, answers[each.project]) for each in every]

    async def _ask(self, project: str, question: Question) -> list[dict[str, Any]]:
        expected = self._instances.get(project, set())
        told = await collect(self._connection, project, about=question, expected=expected)
        self._instances[project] = {str(each["instance"]) for each in told}
        return told

    async def _function(
        self, inquiry: Inquiry, reader: ReadingFunction, answers: InstanceAnswers, depth: int
    ) -> dict[str, Any]:
        facts, place = await inquiry.facts(reader, answers)
        made = await self._outputs(reader, place) if place.timestamp_ns else outputs.FoundOutputs()
        facts = msgspec.structs.replace(facts, outputs=len(made.outputs) + len(made.delayed))
        told = story.tell(facts)
        attempts = reader.known.attempts if reader.known is not None else 0
        if facts.kept is not None and not attempts:
            attempts = facts.kept.attempts
        return {
            "project": reader.project,
            "function": reader.function,
            "label": reader.known.label
            if reader.known is not None and reader.known.label
            else reader.function,
            "ordered": reader.ordered,
            "durable": facts.durable.name if facts.durable is not None else None,
            **_told(told),
            "attempts": attempts or None,
            "error": _error(facts.kept) if facts.kept is not None else None,
            "dead_letter": msgspec.to_builtins(facts.letter) if facts.letter is not None else None,
            "parts": msgspec.to_builtins(facts.gathering) if facts.gathering is not None else None,
            "sent_back": facts.sent_back or None,
            "outputs": [
                *[await self._output(each, depth, at) for at, each in enumerate(made.outputs)],
                *[await self._output(each, depth, at) for at, each in enumerate(made.delayed)],
            ],
            "outputs_whole": made.whole,
        }

    async def _outputs(self, reader: ReadingFunction, place: Origin) -> outputs.FoundOutputs:
        """The outputs that a function has made of the message, as far as the search finds them."""
        known = reader.known
        aim = target(known, place.subject) if known is not None and place.subject else ""
        if known is not None and not known.output and not known.publishes:
            return outputs.FoundOutputs()
        self._until = self._until or time.monotonic() + SEARCH_SECONDS
        search = Search(
            project=reader.project,
            function=reader.function,
            origin=place,
            target=aim,
            anywhere=known is None or known.publishes or (bool(known.output) and not aim),
            until=self._until,
        )
        return await outputs.find(self._connection, self._streams, search)

    async def _output(self, output: FoundOutput, depth: int, at: int) -> dict[str, Any]:
        place = output.stream, output.sequence
        found: dict[str, Any] = {
            "message_id": identity.message_id(*place),
            "subject": output.subject,
            "number": output.number,
            "message": None,
        }
        if depth > 0 and at < self._limits.breadth and place not in self._told and len(self._told) < MOST:
            with suppress(PermissionDenied):  # then the output is named, and its story left out
                info = await stream_info(self._connection, output.stream)
                if info is not None:
                    found["message"] = await self._story(info, *place, depth - 1)
        return found

    def _message(self, about: Inquired) -> dict[str, Any]:
        """The message itself, without its functions."""
        stored, state = about.stored, about.info["state"]
        document: dict[str, Any] = {
            "message_id": identity.message_id(about.stream, about.sequence),
            "stream": about.stream,
            "sequence": about.sequence,
            "there": stored is not None,
            "gone": None if stored is not None else _why_gone(about.sequence, state, about.info["config"]),
            "subject": None,
            "time": None,
            "size": None,
            "headers": {},
            "trace_id": None,
            "trace_url": None,
            "delayed": None,
            "copy_of": None,
        }
        if stored is None:
            return document
        pairs = header.pairs(stored.header or b"")
        named = dict(reversed(pairs))
        parent = traceparent.sent_in(stored.header)
        place = about.origin
        trace_id = (
            parent.trace_id
            if parent is not None
            else traceparent.derived_trace_id(place.stream, place.sequence, place.timestamp_ns)
        )
        before = origin.read(named)
        return document | {
            "subject": sharding.original(stored.subject),
            "time": times.stamp(stored.stored_ns / 1e9),
            "size": len(stored.body),
            "headers": self._rules.headers(named),
            "trace_id": trace_id,
            "trace_url": self._settings.trace_url.replace("{trace_id}", trace_id),
            "delayed": _delayed(named),
            "copy_of": identity.message_id(before.stream, before.sequence)
            if before is not None
            else _died(named),
        }


def _held(told: Sequence[Mapping[str, Any]]) -> list[tuple[str, Hand]]:
    return [
        (held["function"], Hand(str(each["instance"]), msgspec.convert(held, Held)))
        for each in told
        for held in each.get("held") or ()
    ]


def _told(told: Story) -> dict[str, Any]:
    return {
        "state": told.state,
        "why": told.why or None,
        "instance": told.instance or None,
        "attempt": told.attempt or None,
        "since": times.stamp(told.since) if told.since else None,
        "next_attempt": times.stamp(told.next_attempt) if told.next_attempt else None,
        "ahead": {"least": told.ahead[0], "most": told.ahead[1]} if told.ahead is not None else None,
    }


def _error(kept: Any) -> dict[str, Any]:
    return {
        "error": kept.error,
        "message": kept.message,
        "where": kept.where or None,
        "attempt": kept.attempt,
        "time": times.stamp(kept.time),
        "instance": kept.instance or None,
        "trace_id": kept.trace_id or None,
        "traceback": kept.traceback or None,
    }


def _why_gone(sequence: int, state: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    if config.get("retention", "limits") != "limits":
        return "the stream removes what its functions have settled"
    if sequence < int(state["first_seq"]):
        return (
            f"the stream begins at {state['first_seq']}: it was removed by a limit, or with all before that"
        )
    return "it was deleted, or replaced by a later one of its subject, or had its time"


def _delayed(headers: Mapping[str, str]) -> dict[str, Any] | None:
    """When and to which subject a delayed message is published; None for any other message."""
    when = headers.get("Nats-Schedule", "")
    if delayed.TARGET not in headers:
        return None
    return {"at": when.removeprefix("@at ") or None, "subject": headers[delayed.TARGET]}


def _died(headers: Mapping[str, str]) -> str | None:
    """The message of which this one is the dead letter; None if it is none."""
    stream, sequence = headers.get("Jetrunner-Dead-Stream"), headers.get("Jetrunner-Dead-Sequence")
    return f"{stream}:{sequence}" if stream and sequence else None
