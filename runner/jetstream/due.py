"""Callbacks that are due right before the next write: each is called once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

log = logging.getLogger("jetrunner.wire")


def call_each(callbacks: Iterable[Callable[[], None]]) -> None:
    """Call them all: one that fails is logged, since the others wait for this write, too."""
    for callback in callbacks:
        try:
            callback()
        except Exception:
            log.exception("something could not be added to a write")
