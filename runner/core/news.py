"""What is new to tell: a loop that fails again and again has one line for each reason, not one for each try."""

from __future__ import annotations

import logging


class News:
    """The last text that was told of each thing."""

    def __init__(self) -> None:
        self._told: dict[str, str] = {}

    def is_new(self, text: object, about: str = "") -> bool:
        """Whether this text was not the last one that was told of the thing; from now on it is."""
        before, self._told[about] = self._told.get(about), str(text)
        return before != self._told[about]

    def warn(self, log: logging.Logger, text: str, *facts: object, about: str = "") -> None:
        """Log a warning, unless it was the last text that was told of the thing."""
        if self.is_new(text % facts, about):
            log.warning(text, *facts)

    def over(self, about: str = "") -> None:
        """The thing is well again: the next text about it is told, whatever it is."""
        self._told.pop(about, None)
