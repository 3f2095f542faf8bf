"""What somebody does to the durables of a function while it runs: pauses, and settings that the server does not put back, each told once."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from runner.core.news import News
from runner.errors import JetrunnerError, ServerError
from runner.jetstream import consumer
from runner.jetstream.publisher import unanswered

log = logging.getLogger("jetrunner.durables")


class Drift:
    """What is known, and was told, of each durable."""

    def __init__(self) -> None:
        self._paused: dict[tuple[str, str], str] = {}
        """By stream and durable: what is sent back to a function is read with a durable of the same name."""
        self._news = News()

    @property
    def paused(self) -> list[str]:
        """Why the server delivers nothing of durables that are paused, one line each."""
        return list(self._paused.values())

    def look(self, stream: str, info: Mapping[str, Any]) -> None:
        """See in a durable's info whether it is paused."""
        name, why = info["name"], consumer.paused(stream, info)
        before = self._paused.pop((stream, name), "")
        if why:
            self._paused[stream, name] = why
        if why != before:
            log.warning("%s", why or f"durable {name} on {stream} is paused no more")

    def refused(self, stream: str, durable: str, error: JetrunnerError) -> None:
        """Tell why a durable's settings cannot be put back, unless that is known, or no server has decided it."""
        undecided = isinstance(error, ServerError) and unanswered(error)
        level = (
            logging.WARNING
            if not undecided and self._news.is_new(error, f"{stream} {durable}")
            else logging.DEBUG
        )
        log.log(level, "the settings of durable %s on %s cannot be put back: %s", durable, stream, error)

    def over(self, stream: str, durable: str) -> None:
        """A durable's settings are as they should be."""
        self._news.over(f"{stream} {durable}")
