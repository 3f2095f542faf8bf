"""Callbacks that are due right before the next write: each is called once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

log = logging.getLogger("jetrunner.wire")


def call_each(callbacks: Iterable[Callable[[], None]]) -> None:
    """Call all of them. An error of one is logged, because the others wait for this write, too."""
    for callback in callbacks:
        try:
            callback()
        except Exception:
            log.exception("a callback before a write has failed")
