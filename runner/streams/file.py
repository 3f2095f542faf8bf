"""Stream files: every `streams/*.toml` of a project declares one stream."""

from __future__ import annotations

import re
import tomllib
from itertools import combinations
from pathlib import Path
from typing import Any

from runner.core.streams import field as streamfield
from runner.core.streams import shards as streamshards
from runner.core.streams.config import DeclaredStream, merged
from runner.core.streams.conflict import conflict
from runner.core.subject import overlaps
from runner.errors import JetrunnerError, StreamFileError, several
from runner.jetstream.ownstreams import STREAMS

FOLDER = "streams"
OWN = {name: tuple(config["subjects"]) for name, config in STREAMS.items()} | {"PARKED": ("parked.>",)}
"""Streams that Jetrunner makes for itself, and their subjects."""
FEEDING = ("subjects", "subject_transform", "republish", "mirror", "sources")
"""Fields that must be right before the table [shards] can be checked."""


def load_streams(root: Path) -> tuple[DeclaredStream, ...]:
    """The declared streams of a project, by name; none without a `streams` folder.

    One StreamFileError tells all that is wrong, with the file, the field and, if it is known, the line.
    """
    folder = root / FOLDER
    files = sorted(path for path in folder.glob("*.toml") if path.is_file()) if folder.is_dir() else []
    streams: list[DeclaredStream] = []
    wrong: list[JetrunnerError] = []
    for path in files:
        try:
            streams.append(_read(path, f"{FOLDER}/{path.name}"))
        except StreamFileError as error:
            wrong.extend(error.parts or (error,))
    wrong.extend(found for pair in combinations(streams, 2) if (found := _clash(*pair)))
    if wrong:
        raise several(wrong)
    return tuple(sorted(streams, key=lambda stream: stream.name))


def _clash(one: DeclaredStream, other: DeclaredStream) -> StreamFileError | None:
    """Why two files cannot stand beside each other."""
    if one.name == other.name:
        return StreamFileError(f'{other.file}: name: "{other.name}" is declared in {one.file} already')
    for own in one.subjects:
        if clash := next((text for text in other.subjects if overlaps(own, text)), None):
            return StreamFileError(
                f'{other.file}: subjects: "{clash}" overlaps "{own}" of {one.file}',
                hint="a message belongs to one stream: make one of the two narrower",
            )
    return None


def _read(path: Path, file: str) -> DeclaredStream:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise StreamFileError(f"{file}: not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise StreamFileError(f"{file}: cannot be read: {error.strerror}") from None
    return declare(parse(text, file), file, text)


def parse(text: str, file: str) -> dict[str, Any]:
    """Parse a file's text. Raises StreamFileError."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r" ?\(at (?:line (\d+), column \d+|end of document)\)$", str(error))
        line = (found[1] if found else None) or str(max(1, len(text.splitlines())))
        what = str(error)[: found.start()] if found else str(error)
        raise StreamFileError(f"{file}:{line}: not TOML: {what}") from None
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, or as many brackets
        raise StreamFileError(f"{file}: cannot be read: {error}") from None


def declare(table: dict[str, Any], file: str, text: str = "") -> DeclaredStream:
    """Make a declared stream of a parsed file; `text` is searched for the lines of wrong fields. Raises StreamFileError."""

    def wrong(key: str, message: str, hint: str = "") -> StreamFileError:
        return StreamFileError(f"{file}{_line(text, key)}: {key}: {message}", hint=hint)

    fields, errors = _fields(table)
    if not errors or not {each.key.partition(".")[0] for each in errors} & {*FEEDING}:
        try:
            sharded = streamshards.read(table, fields)
        except streamfield.FieldError as error:
            errors.append(error)
    if errors:
        raise several([wrong(error.key, str(error)) for error in errors])
    if "name" not in fields:
        raise wrong("name", "missing", 'a stream needs one: name = "ORDERS"')
    name = fields["name"]
    if name in OWN:
        raise wrong(
            "name", f"{name} is Jetrunner's own stream", "choose another name; `runner run` makes that one"
        )
    declared = DeclaredStream(name, file, sharded.fields, sharded.shards, sharded.source)
    subjects = declared.subjects
    if not subjects and not fields.get("mirror") and not declared.fields.get("sources"):
        raise wrong("subjects", "missing", 'say what the stream captures: subjects = ["orders.>"]')
    for one, other in combinations(subjects, 2):
        if overlaps(one, other):
            raise wrong("subjects", f'"{one}" and "{other}" overlap: the server takes each message once')
    for own, reserved in OWN.items():
        for subject in subjects:
            if clash := next((text for text in reserved if overlaps(subject, text)), None):
                raise wrong("subjects", f'"{subject}" overlaps "{clash}", which belongs to the stream {own}')
    if clashing := conflict(merged(declared, None)):
        named = [field for field in clashing[0] if field in table]
        raise wrong(named[0] if named else clashing[0][0], clashing[1])
    return declared


def _fields(table: dict[str, Any]) -> tuple[dict[str, Any], list[streamfield.FieldError]]:
    """The fields for the server, and an error for each field of the file that is wrong."""
    rest = {key: value for key, value in table.items() if key not in streamfield.OURS}
    errors: list[streamfield.FieldError] = []
    while True:
        try:
            return streamfield.read(rest), errors
        except streamfield.FieldError as error:
            errors.append(error)
            bad = next(key for key in rest if error.key == key or error.key.startswith(f"{key}."))
            del rest[bad]


def _line(text: str, key: str) -> str:
    """The line of a field as `:4`; empty if the file's text does not show it."""
    first, _, rest = key.partition(".")
    pattern = rf"""^[ \t]*(?:\[\[?[ \t]*)?["']?{re.escape(first)}["']?[ \t]*[=.\]]"""
    found = re.search(pattern, text, re.MULTILINE)
    if found is None:
        return ""
    place = found.start()
    if rest and re.fullmatch(r"\s*\[[^\[]+\]", found[0]):  # a field stands before the next table
        after = re.split(r"\n[ \t]*\[", text[found.end() :], maxsplit=1)[0]
        inner = re.search(rf"""^[ \t]*["']?{re.escape(rest)}["']?[ \t]*=""", after, re.MULTILINE)
        place = found.end() + inner.start() if inner else place
    return f":{text.count(chr(10), 0, place) + 1}"
