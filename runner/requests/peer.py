"""One instance that answers requests, as this process knows it."""

from __future__ import annotations

from runner.core import service

PROBE_SECONDS = 0.05
"""An instance that leaves a request unanswered for so long is asked whether it lives, and again after each such pause."""
FROZEN_SECONDS = 0.1
"""An instance that leaves that question unanswered for so long is taken for frozen."""


class Peer:
    """An instance, and the requests that it was sent."""

    __slots__ = (
        "frozen", "id", "idempotent", "may_ping", "outstanding", "patterns", "ping", "prefix", "probed", "project", "told_at", "told_in",
        "unanswered", "unreachable", "weight",
    )  # fmt: skip

    def __init__(self, project: str, instance: str) -> None:
        self.project = project
        self.id = instance
        self.weight = 1.0
        self.idempotent: frozenset[str] = frozenset()
        """The subject patterns whose requests may run twice, as the instance says."""
        self.patterns: set[str] = set()
        """The subject patterns that it answers on."""
        self.told_in = 0
        self.told_at = 0.0
        """When it last told of itself, by the monotonic clock; `told_in` is the round."""
        self.prefix = service.instance_subject(project, instance, "").encode()
        """The prefix of a function's subject for requests to this instance alone."""
        self.ping = service.control_subjects("PING", project, instance)[2].encode()
        self.outstanding: dict[bytes, float] = {}
        """When each unanswered request was sent, by token, the oldest first."""
        self.may_ping = True
        """Whether we may ask it if it lives."""
        self.probed = 0.0
        """When it was last asked whether it lives."""
        self.unanswered = 0.0
        """When the oldest unanswered question whether it lives was sent; 0.0: none."""
        self.frozen = False
        """Whether its silence was logged."""

        self.unreachable = False
        """Whether nobody listened there. It is forgotten, but if it was only cut off, it may still answer its requests."""

    def heard(self) -> None:
        """Note that the instance has answered something."""
        self.unanswered = 0.0
        self.frozen = False

    def is_late(self, now: float) -> bool:
        """Whether the instance is to be asked now whether it lives."""
        if not self.outstanding or not self.may_ping:
            self.unanswered = 0.0
            return False
        oldest = next(iter(self.outstanding.values()))
        return now - oldest >= PROBE_SECONDS and now - self.probed >= PROBE_SECONDS

    def is_frozen(self, now: float) -> bool:
        """Whether the instance has been silent for so long that its requests go to other instances."""
        return self.unanswered > 0.0 and now - self.unanswered >= FROZEN_SECONDS
