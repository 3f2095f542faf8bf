"""Standstill: shards and keys that should go on and do not, with the reason, for the log and `runner status`."""

from __future__ import annotations

import logging
from collections.abc import Mapping

log = logging.getLogger("jetrunner.shards")

PATIENCE_SECONDS = 5.0
"""A shard or key may stand still so long before that is logged."""


class Standstill:
    """Shards or keys of one function that do not go on; each is logged once."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}
        self._reasons: dict[str, str] = {}
        self._told: set[str] = set()

    def look(self, standing: Mapping[str, str], now: float) -> list[str]:
        """Take all shards or keys that stand still now, with the reasons; returns those that have stood still for too long."""
        for name in self._told.difference(standing):
            log.info("%s goes on", name)
        self._since = {name: self._since.get(name, now) for name in standing}
        self._reasons = dict(standing)
        late = [name for name, since in self._since.items() if now - since >= PATIENCE_SECONDS]
        for name in late:
            if name not in self._told:
                log.warning(
                    "%s has handled nothing for %.0f s: %s", name, now - self._since[name], standing[name]
                )
        self._told = set(late)
        return late

    def told(self) -> list[str]:
        """The shards or keys that have stood still for too long, in words."""
        return [f"{name}: {self._reasons[name]}" for name in sorted(self._told)]
