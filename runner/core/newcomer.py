"""Whether a function without a durable may have run under another name before, so that it would run all stored messages again."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from msgspec import Struct

from runner.core.quantity import counted
from runner.core.streams.plan import ALSO, function_of
from runner.core.subject import overlaps


class StandingDurable(Struct, frozen=True):
    """A durable on the server."""

    name: str
    subjects: tuple[str, ...]
    """The subjects that the durable reads, as published."""
    function: str = ""
    """The function's name by the durable's metadata; empty: the durable is not Jetrunner's."""


class Newcomer(Struct, frozen=True):
    """A function without a durable, on a stream that holds messages for it."""

    label: str
    """The function's name in the code."""
    function: str
    """The function's name on the server: `renamed_from=`, if the code has it."""
    subject: str
    stored: int


def suspicion(
    newcomer: Newcomer, project: str, functions: Collection[str], standing: Iterable[StandingDurable]
) -> str:
    """Say what runs again if the function is not new, and what to write then; empty when nothing points to that.

    `functions` are the names on the server of all functions of the project; `standing` are the durables on the newcomer's stream.
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


def _project_of(standing: StandingDurable, function: str) -> str:
    """The project whose function of that name has the durable; empty when no function of that name has it."""
    if standing.function != function:
        return ""
    match = re.fullmatch(rf"(.+)-{re.escape(function)}(?:-\d+-\d+|-{ALSO}-[0-9a-f]+)?", standing.name)
    return match[1] if match else ""
