"""Where one message is in this process: the answer of an instance that is asked for it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from runner.core.holding import Held, HoldingStep, Question
from runner.jetstream.delivery import Delivery
from runner.jetstream.pull import Pull
from runner.pipeline.message import SENT_BACK, read


def found_in(pulls: Iterable[Pull], about: Question) -> list[Delivery]:
    """The deliveries of a message in these pulls, both from its own stream and sent back."""
    found = []
    for pull in pulls:
        if pull.stream == about.stream and (known := pull.unsettled.get(about.sequence)) is not None:
            found.append(known)
        found += [
            each
            for each in list(pull.unsettled.values())
            if each.subject.startswith(SENT_BACK) and is_about(each, about)
        ]
    return list({id(each): each for each in found}.values())


def is_about(delivery: Delivery, about: Question) -> bool:
    """Whether a message that was sent back is the message asked about."""
    origin = read(delivery).origin
    return (origin.stream, origin.sequence) == (about.stream, about.sequence)


def held(function: str, delivery: Delivery, others: Mapping[int, Delivery], *, apart: bool) -> Held:
    """Describe a delivery. `others` are the deliveries of its pull; `apart`: a suspect's handler runs in another process."""
    return Held(
        function=function,
        step=step_of(delivery, others),
        attempt=delivery.attempt,
        since=unix(delivery.started) if delivery.started else 0.0,
        apart=apart and delivery.in_cell,
        late=delivery.overdue or delivery.abandoned is not None,
        sent_back=delivery.subject.startswith(SENT_BACK),
    )


def step_of(delivery: Delivery, others: Mapping[int, Delivery]) -> HoldingStep:
    """How far a delivery has come."""
    if delivery.finishing:
        return "settling"
    if delivery.task is not None or delivery.in_cell:
        return "running"
    if not delivery.started:
        return "queued"
    # Only one message of a batch carries the task.
    together = (each for each in others.values() if each.task is not None)
    return "running" if any(each.started == delivery.started for each in together) else "settling"


def unix(monotonic: float) -> float:
    """Convert a time of the monotonic clock to Unix time."""
    return time.time() + monotonic - time.monotonic()
