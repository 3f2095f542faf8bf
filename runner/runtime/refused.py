"""Actions that NATS refuses the runner itself: each is logged once, and keeps the process from being ready."""

from __future__ import annotations

import logging

import anyio

from runner.jetstream.denials import Denials

log = logging.getLogger("jetrunner.refused")

LOOK_SECONDS = 0.2


async def tell(denials: Denials) -> None:
    """Log refusals, and their ends, until cancelled."""
    told: dict[str, str] = {}
    while True:
        now = denials.now()
        for what, sentence in now.items():
            if told.get(what) != sentence:
                log.error("refused: %s", sentence)
        for what in told.keys() - now.keys():
            log.info("%s: no longer refused", what)
        told = now
        await anyio.sleep(LOOK_SECONDS)
