"""Warns of a subject that no function of the project reads: a message published there may have been meant for another subject."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from runner.cli import failure
from runner.cli.functions import all_functions
from runner.cli.options import Workplace
from runner.core.subject import Template, overlaps


def warn(place: Workplace, subject: Template) -> None:
    """Warn if no function of the project reads the subject; do nothing without a project, or if its code cannot be imported."""
    functions = all_functions(place.root, place.settings.name)
    if not functions:
        return
    read = [each.subject for each in functions]
    if any(overlaps(each.wildcard, subject.wildcard) for each in read):
        return
    near = nearest(subject, read)
    failure.warn(f"no function of {place.settings.name} reads {subject.text}")
    if near:
        failure.advise(f"did you mean {near}?")


def nearest(subject: Template, read: Iterable[Template]) -> str:
    """The subject that a function reads, and that was perhaps meant; empty if none is close."""
    tokens = subject.text.split(".")
    filled: dict[str, str] = {}
    for each in read:
        theirs = each.wildcard.split(".")
        # A wildcard takes the token that was given in its place, so that only the other tokens differ: these may be misspelt.
        whole = [own if other in ("*", ">") else other for own, other in zip(tokens, theirs, strict=False)]
        filled.setdefault(".".join(whole + theirs[len(whole) :]), each.text)
    close = get_close_matches(subject.text, filled, 1, cutoff=0.75)
    return filled[close[0]] if close else ""
