"""One instance that answers requests, as this process knows it."""

from __future__ import annotations

from runner.core import service

PROBE_SECONDS = 0.05
"""An instance that has not answered a request for so long is asked whether it lives, and again after as long."""
FROZEN_SECONDS = 0.1
"""One that has not answered that for so long is taken for frozen."""


class Peer:
    """An instance, and what it has been asked."""

    __slots__ = (
        "frozen", "id", "idempotent", "may_ping", "outstanding", "patterns", "ping", "prefix", "probed", "project", "told_at", "told_in",
        "unanswered", "unreachable", "weight",
    )  # fmt: skip

    def __init__(self, project: str, instance: str) -> None:
        self.project = project
        self.id = instance
        self.weight = 1.0
        self.idempotent: frozenset[str] = frozenset()
        """The patterns of subjects whose requests may run twice, as it says."""
        self.patterns: set[str] = set()
        """Of the subjects that it is asked on."""
        self.told_in = 0
        self.told_at = 0.0
        """When it told of itself last: in which round of questions to all, and by the clock."""
        self.prefix = service.instance_subject(project, instance, "").encode()
        """What stands before the subject of a function where this instance alone is asked."""
        self.ping = service.control_subjects("PING", project, instance)[2].encode()
        self.outstanding: dict[bytes, float] = {}
        """When each was sent that it has not answered, by token, the oldest first."""
        self.may_ping = True
        """Whether we are allowed to ask it."""
        self.probed = 0.0
        """When it was last asked whether it lives."""
        self.unanswered = 0.0
        """When the oldest such question was sent that it has not answered; 0.0 without."""
        self.frozen = False
        """Whether it was told that it does not answer."""

        self.unreachable = False
        """Whether nobody listened there: it is forgotten, but may still answer what it has if it was cut off only."""

    def heard(self) -> None:
        """It has answered something."""
        self.unanswered = 0.0
        self.frozen = False

    def is_late(self, now: float) -> bool:
        """Whether it is to be asked now whether it lives."""
        if not self.outstanding or not self.may_ping:
            self.unanswered = 0.0
            return False
        oldest = next(iter(self.outstanding.values()))
        return now - oldest >= PROBE_SECONDS and now - self.probed >= PROBE_SECONDS

    def is_frozen(self, now: float) -> bool:
        """Whether it has not answered for so long that its work is asked elsewhere."""
        return self.unanswered > 0.0 and now - self.unanswered >= FROZEN_SECONDS
