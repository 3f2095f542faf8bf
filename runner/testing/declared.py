"""The streams that a test declares before its functions run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from runner.bindings import Binding
from runner.core.streams.capture import capture
from runner.core.streams.config import DeclaredStream
from runner.core.subject import covers
from runner.errors import NoStream
from runner.streams.file import FOLDER, declare, load_streams
from runner.streams.plan import subjects_of_streams

GivenStreams: TypeAlias = "Mapping[str, Sequence[str] | Mapping[str, Any]] | Path | str | None"
"""A folder with stream files; or, by a stream's name, its subjects or the fields of its file; None: the project's streams."""

STREAM = "TEST"


def declared(root: Path, streams: GivenStreams, bindings: Sequence[Binding]) -> list[DeclaredStream]:
    """The streams that the test gives; else those of the project in `root`, and one for subjects that none of them captures."""
    if isinstance(streams, (str, Path)):
        folder = Path(streams)
        return list(load_streams(folder.parent if folder.name == FOLDER else folder))
    if streams is not None:
        return [
            declare(
                {"name": name, **(given if isinstance(given, Mapping) else {"subjects": list(given)})},
                f"streams[{name!r}]",
            )
            for name, given in streams.items()
        ]
    found = list(load_streams(root))
    known = subjects_of_streams(found)
    subjects: list[str] = []
    for binding in bindings:
        reads = [binding.subject.wildcard] if binding.reads_stream else []
        for subject in (*reads, *([binding.output.wildcard] if binding.output else [])):
            try:
                capture(
                    subject, known, chosen=binding.stream if subject == binding.subject.wildcard else None
                )
            except NoStream:
                subjects = [each for each in subjects if not covers(subject, each)]
                if not any(covers(each, subject) for each in subjects):
                    subjects.append(subject)
    return [*found, *([declare({"name": STREAM, "subjects": subjects}, STREAM)] if subjects else [])]
