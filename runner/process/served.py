"""A function as its process sees it, whether it reads a stream or answers requests."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

from runner.bindings import Binding
from runner.core.subject import overlaps
from runner.jetstream.topology import Topology
from runner.pipeline.stats import Stats
from runner.services.counts import Counts

log = logging.getLogger("jetrunner")


class Served(Protocol):
    """A function of either kind, with what status, health and metrics tell of it."""

    binding: Binding

    @property
    def stats(self) -> Stats | Counts:
        """Counts of what the function has done."""

    @property
    def blocked(self) -> str:
        """Why the function can do nothing; empty while it can work."""

    @property
    def unsettled(self) -> int:
        """Messages or requests that are in work here, or wait here for a slot."""

    @property
    def at_work(self) -> Sequence[str]:
        """The messages or requests that the function's handlers run with now, in words."""


def stored(subject: str, streams: Sequence[tuple[str, Sequence[str]]]) -> list[str]:
    """The names of the streams that store the requests to a subject; `streams` are names with the subjects that they capture."""
    return [name for name, subjects in streams if any(overlaps(each, subject) for each in subjects)]


def warning(binding: Binding, streams: Sequence[str]) -> str:
    """The warning for a function whose requests are stored by these streams."""
    return (
        f"{', '.join(streams)} stores what is asked on {binding.subject.text}: whoever asks {binding.function} may get the "
        "stream's PubAck for an answer"
    )


def warn_of_stored(bindings: Sequence[Binding], topology: Topology) -> None:
    """Log a warning for each function whose requests a stream stores."""
    streams = [(name, config.get("subjects") or ()) for name, config in topology.streams.items()]
    for binding in bindings:
        if found := stored(binding.subject.wildcard, streams):
            log.warning("%s", warning(binding, found))
