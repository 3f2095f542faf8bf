"""One function as this process asks it: its instances, and which of them is asked next."""

from __future__ import annotations

from random import random

from runner.core.balancer import Balancer
from runner.core.retrybudget import RetryBudget
from runner.requests.peer import Peer


class Callee:
    """The instances that answer one pattern of subjects for one project."""

    __slots__ = ("asked", "balancer", "budget", "function", "idempotent", "pattern", "peers", "project")

    def __init__(self, project: str, pattern: str, function: str) -> None:
        self.project = project
        self.pattern = pattern
        self.function = function
        self.idempotent = False
        """Whether a request may run twice: true if all instances say so."""
        self.peers: dict[str, Peer] = {}
        self.asked = False
        """Whether this process has asked it."""
        self.balancer = Balancer(luck=random)
        self.budget = RetryBudget()
