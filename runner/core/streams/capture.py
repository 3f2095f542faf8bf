"""Which stream captures a subject: exactly one stream must capture it whole; else an error says what to do."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any

from msgspec import Struct

from runner.core import sharding
from runner.core.sharding import Sharding
from runner.core.subject import Template, covers, overlaps
from runner.errors import NoStream, UsageError

_MAPPED = re.compile(r"\{\{[^}]*\}\}|\$\d+")


class StreamSubjects(Struct, frozen=True):
    """The subjects of one stream: those that it captures, and those under which it stores messages."""

    name: str
    subjects: tuple[str, ...]
    """The subjects that publishers use."""
    stored: tuple[str, ...] | None
    """The subjects that functions read there, as published; None: only the server knows them (a mirror, or sources)."""
    file: str = ""
    """The stream file that declares the stream; empty: no file does."""
    sharding: Sharding | None = None
    """How the stream is sharded; None: it is not, or not by us."""
    work_queue: bool = False
    """Whether each of its messages is for one function, and is removed after that."""
    confirms: bool = True
    """Whether the stream confirms to publishers that a message is stored."""


def clashes(
    reading: Iterable[tuple[str, str, str]], queues: Collection[str]
) -> Iterator[tuple[str, str, str]]:
    """Find pairs of functions that would read the same messages of a work queue, with its name: the server allows only one.

    `reading` gives each function's name, subject and stream; `queues` are the names of the work queues.
    """
    seen: list[tuple[str, str, str]] = []
    for function, subject, stream in reading:
        if stream in queues:
            yield from (
                (other, function, stream)
                for other, theirs, where in seen
                if where == stream and overlaps(subject, theirs)
            )
            seen.append((function, subject, stream))


def subjects_of_stream(name: str, config: Mapping[str, Any], file: str = "") -> StreamSubjects:
    """Read the subjects from a stream's configuration; without subjects, mirror and sources it is the stream's name."""
    fed = bool(config.get("mirror") or config.get("sources"))
    subjects = tuple(config.get("subjects") or (() if fed else (name,)))
    confirms = not config.get("no_ack")
    queue = config.get("retention") == "workqueue"
    if (sharded := sharding.read(config)) is not None:
        # Subjects keep their published form for everyone but the server, see core.sharding.
        return StreamSubjects(
            name, subjects, _copied(config) if fed else subjects, file, sharded, queue, confirms
        )
    stored = list(subjects)
    if transform := config.get("subject_transform"):
        source = transform.get("src") or ">"
        stored = [subject for subject in stored if not covers(source, subject)]
        if any(overlaps(source, subject) for subject in subjects):
            stored.append(_MAPPED.sub("*", transform["dest"]))
    return StreamSubjects(name, subjects, None if fed else tuple(stored), file, None, queue, confirms)


def capture(
    subject: str, streams: Iterable[StreamSubjects], *, chosen: str | None = None, publishing: bool = False
) -> str:
    """Find the name of the one stream that captures every subject that matches a pattern.

    `chosen` is a binding's `stream=`; with `publishing`, the subjects for publishers count instead of the stored ones.
    Raises NoStream when no stream does, or one does only in part, and UsageError when several do.
    """
    known = list(streams)
    if chosen is None and not publishing:
        known = [stream for stream in known if stream.subjects]  # only bindings that choose a copy read it
    if chosen is not None:
        known = [stream for stream in known if stream.name == chosen]
        if not known:
            raise NoStream(f"there is no stream {chosen}", hint=f'declare it, or correct stream="{chosen}"')
        if known[0].stored is None and not publishing:
            return chosen  # a mirror, or sources: only the user knows which subjects it holds
    whole = [stream for stream in known if covered(_patterns(stream, publishing), subject)]
    if len(whole) == 1:
        return whole[0].name
    if whole:
        names = " and ".join(stream.name for stream in whole)
        hint = "give one of them narrower subjects" if publishing else f'choose one: stream="{whole[0].name}"'
        raise UsageError(f"{names} both capture {subject}", hint=hint)
    for stream in known:
        if part := [own for own in _patterns(stream, publishing) if overlaps(own, subject)]:
            raise NoStream(
                f"{_called(stream)} captures {subject} only in part: {', '.join(part)}",
                hint=f'add "{subject}" to its subjects, or narrow the subject to what it captures',
            )
    if chosen is not None:
        hint = f'add "{subject}" to its subjects, or choose another stream'
        raise NoStream(f"{_called(known[0])} does not capture {subject}", hint=hint)
    raise NoStream(f"no stream captures {subject}", hint=_advice(subject, known, publishing))


def require_confirmation(stream: StreamSubjects) -> None:
    """Check that a stream confirms stored messages, as outputs need it. Raises UsageError."""
    if not stream.confirms:
        raise UsageError(
            f"{_called(stream)} confirms nothing (no_ack = true), which an output needs",
            hint="set no_ack = false in its file and run `runner apply`, or declare another stream for the output",
        )


def require_order(stream: StreamSubjects, subject: Template, ordered_by: Sequence[str]) -> None:
    """Check that a stream keeps a function's order: each key of the function is in one shard. Raises UsageError."""
    if not ordered_by or stream.sharding is None:
        return
    tokens = subject.wildcard.split(".")
    names = dict(zip(subject.positions, subject.names, strict=True))
    for place in stream.sharding.positions:
        if place < len(tokens) and tokens[place] not in ("*", ">"):
            continue  # always the same token, so always the same shard
        name = names.get(place)
        if name in ordered_by:
            continue
        hint = (
            f"ordered_by={(*ordered_by, name)!r}"
            if name
            else f"name token {place + 1} of the subject, and add it"
        )
        raise UsageError(
            f"{_called(stream)} is sharded by token {place + 1} of its subjects"
            f"{f', {{{name}}} here' if name else ''}: ordered_by= must hold it, or a key would stand in several shards",
            hint=f"{hint}; or read a stream that is sharded otherwise",
        )


def covered(patterns: Sequence[str], subject: str) -> bool:
    """Whether the patterns together match every subject that `subject` matches."""
    if any(covers(pattern, subject) for pattern in patterns):
        return True
    deepest = max((pattern.count(".") for pattern in patterns), default=0)
    if not (subject == ">" or subject.endswith(".>")) or subject.count(".") > deepest:
        return False
    stem = subject.removesuffix(">")  # `a.>` is `a.*` and `a.*.>`
    return covered(patterns, f"{stem}*") and covered(patterns, f"{stem}*.>")


def _patterns(stream: StreamSubjects, publishing: bool) -> tuple[str, ...]:
    return stream.subjects if publishing or stream.stored is None else stream.stored


def _copied(config: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The subjects that a stream copies from other streams, as configured; None when it stores them under other subjects."""
    found = list(config.get("subjects") or ())
    for source in config.get("sources") or ():
        transforms = source.get("subject_transforms") or ({"src": source.get("filter_subject") or ">"},)
        if any(each.get("dest") for each in transforms):
            return None
        found += [each["src"] for each in transforms]
    return tuple(found)


def _called(stream: StreamSubjects) -> str:
    return f"stream {stream.name} ({stream.file})" if stream.file else f"stream {stream.name}"


def _advice(subject: str, known: Sequence[StreamSubjects], publishing: bool) -> str:
    def likeness(pair: tuple[StreamSubjects, str]) -> float:
        return SequenceMatcher(None, pair[1], subject).ratio()

    own = [(stream, text) for stream in known if stream.file for text in _patterns(stream, publishing)]
    if own and likeness(best := max(own, key=likeness)) > 0.5:
        return f'{best[0].file} comes nearest with "{best[1]}": add "{subject}" to its subjects, or correct the subject'
    first = subject.split(".", maxsplit=1)[0]
    if first in "*>":
        return "declare a stream for it in streams/, then run `runner apply`"
    name = first.upper().replace("-", "_")
    return f'create streams/{first}.toml with name = "{name}" and subjects = ["{first}.>"], then run `runner apply`'
