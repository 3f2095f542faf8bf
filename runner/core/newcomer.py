"""Whether a function that has no durable yet may be one that ran under another name: it would run all stored messages again."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from msgspec import Struct

from runner.core.quantity import counted
from runner.core.streams.plan import ALSO, function_of
from runner.core.subject import overlaps


class Standing(Struct, frozen=True):
    """A durable on the server."""

    name: str
    subjects: tuple[str, ...]
    """What it reads, as published."""
    function: str = ""
    """By its metadata; empty for one that is not Jetrunner's."""


class Newcomer(Struct, frozen=True):
    """A function without a durable, on a stream that holds messages for it."""

    label: str
    """What it is called in the code."""
    function: str
    """What it is called on the server: `renamed_from=`, where that is written."""
    subject: str
    stored: int


def suspicion(
    newcomer: Newcomer, project: str, functions: Collection[str], standing: Iterable[Standing]
) -> str:
    """Say what runs again if it is no new function, and what to write then; empty where nothing points to that.

    `functions` are all of the project's, by their names on the server; `standing` is what reads the newcomer's stream.
    """
    alike = [each for each in standing if any(overlaps(newcomer.subject, text) for text in each.subjects)]
    ours = {found for each in alike if (found := function_of(each.name, project)) is not None}
    gone = sorted(ours - {*functions})
    will = f"{newcomer.label} is new and will run {counted(newcomer.stored, 'stored message')}"
    new = 'New on purpose? deliver="new" leaves out what is stored'
    wrong = newcomer.label != newcomer.function
    if wrong:
        will += f'; nothing on {newcomer.subject} is of renamed_from="{newcomer.function}"'
    if gone:
        are = "is" if len(gone) == 1 else "are"
        rename = " or ".join(f'renamed_from="{each}"' for each in gone)
        return f"{will}; {', '.join(gone)} {are} gone. Renamed? @consume(…, {rename}). {new}"
    others = sorted({found for each in alike if (found := _project_of(each, newcomer.function))} - {project})
    if not ours and others:
        of = " and ".join(others)
        name = " or ".join(f'name = "{each}"' for each in others)
        return (
            f"{will}; the server holds its durable of project {of}, and {project} starts over. "
            f"Project renamed? [tool.jetrunner] {name}. {new}"
        )
    return f"{will}. {new}" if wrong else ""


def _project_of(standing: Standing, function: str) -> str:
    """The project whose function of that name the durable is; empty where it is of none."""
    if standing.function != function:
        return ""
    match = re.fullmatch(rf"(.+)-{re.escape(function)}(?:-\d+-\d+|-{ALSO}-[0-9a-f]+)?", standing.name)
    return match[1] if match else ""
