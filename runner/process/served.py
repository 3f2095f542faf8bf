"""A function as its process sees it, whether it reads a stream or answers requests."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

from runner.bindings import Binding
from runner.core.subject import overlaps
from runner.jetstream.topology import Topology
from runner.pipeline.stats import Stats

log = logging.getLogger("jetrunner")


class Served(Protocol):
    """What is told of a function of either kind."""

    binding: Binding

    @property
    def stats(self) -> Stats:
        """What it has done."""

    @property
    def blocked(self) -> str:
        """Why it can do nothing; empty while it can."""

    @property
    def unsettled(self) -> int:
        """What is in work, or waits here for it."""

    @property
    def at_work(self) -> Sequence[str]:
        """What its handlers run with now, in words."""


def stored(subject: str, streams: Sequence[tuple[str, Sequence[str]]]) -> list[str]:
    """The streams that store what is asked on a subject; each comes with the subjects that it captures."""
    return [name for name, subjects in streams if any(overlaps(each, subject) for each in subjects)]


def warning(binding: Binding, streams: Sequence[str]) -> str:
    """What is told where streams store the requests to a function."""
    return (
        f"{', '.join(streams)} stores what is asked on {binding.subject.text}: whoever asks {binding.function} may get the "
        "stream's PubAck for an answer"
    )


def warn_of_stored(bindings: Sequence[Binding], topology: Topology) -> None:
    """Tell of functions whose requests a stream stores."""
    streams = [(name, config.get("subjects") or ()) for name, config in topology.streams.items()]
    for binding in bindings:
        if found := stored(binding.subject.wildcard, streams):
            log.warning("%s", warning(binding, found))
