"""Stories: what became of one message in one function, by what the server and the instances say about it.

Rule 1: if an instance holds the message, its answer counts first: the server knows only that the message is not settled.
Rule 2: a record (a dead letter, a parked message, outputs) counts before the server's figures.
Rule 3: between a durable's floor and its last delivery the server does not say which messages are settled and which are lost.
        Their state is "unknown".
Rule 4: the state of a message that its stream has removed is "gone", unless something else shows what became of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

from msgspec import Struct

from runner.core.quantity import counted, format_duration
from runner.core.storyfacts import DurableFacts, StoryFacts

State: TypeAlias = Literal[
    "waiting", "queued", "running", "settling", "retrying", "done", "dead", "parked", "returning", "gathering",
    "skipped", "gone", "unknown",
]  # fmt: skip

STATES: dict[State, str] = {
    "waiting": "it has not come to an instance, or waits there behind others of its key",
    "queued": "it waits for a slot in an instance",
    "running": "its handler runs",
    "settling": "its handler has ended; outputs or settlement are on their way",
    "retrying": "it waits for its next attempt",
    "done": "it succeeded",
    "dead": "it was given up",
    "parked": "it waits behind a message of its key that was given up",
    "returning": "it comes back from there",
    "gathering": "it is kept until all parts of its event are here",
    "skipped": "it was never the function's to run",
    "gone": "its stream has let go of it before it ran, as far as is known",
    "unknown": "nothing tells",
}
"""The meaning of each state."""


class Story(Struct, frozen=True, omit_defaults=True):
    """What became of the message."""

    state: State
    why: str = ""
    """The reason, in words."""
    instance: str = ""
    attempt: int = 0
    since: float = 0.0
    next_attempt: float = 0.0
    """When the next attempt is due, in Unix time."""
    ahead: tuple[int, int] | None = None
    """How many messages go before it: at least, and at most."""


_NOT_LOOKED_AT = "or sent back and not looked at: there are too many"

Rule: TypeAlias = Callable[[StoryFacts], Story | None]


def tell(facts: StoryFacts) -> Story:
    """Tell the story of a message, by the first rule that can."""
    for rule in _RULES:
        if (told := rule(facts)) is not None:
            return told
    return _unknown(facts)


def ahead(durable: DurableFacts, sequence: int, last: int) -> tuple[int, int]:
    """How many of a durable's messages go before a message that is not delivered: at least, and at most.

    The server counts all waiting messages, but does not say where they are.
    """
    others = max(0, durable.pending - 1)
    most = min(others, max(0, sequence - durable.delivered - 1))
    return min(most, max(0, others - max(0, last - sequence))), most


def _in_hand(facts: StoryFacts) -> Story | None:
    if not facts.hands:
        return None
    steps = ("running", "settling", "resting", "behind", "held", "queued")
    hand = min(facts.hands, key=lambda each: steps.index(each.held.step))
    held, where = hand.held, hand.instance
    back = (
        f", sent back as {facts.sent_back}"
        if facts.sent_back
        else ", on its way back"
        if held.sent_back
        else ""
    )
    match held.step:
        case "running":
            apart = ", in a process of its own" if held.apart else ""
            late = ", past its timeout" if held.late else ""
            why = f"{apart}{late}{back}".removeprefix(", ")
            return Story("running", why, where, held.attempt, held.since)
        case "settling":
            why = "its handler has ended; its outputs or its settlement are on their way"
            return Story("settling", why + back, where, held.attempt, held.since)
        case "resting":
            return Story(
                "retrying",
                "it waits there, and its key with it" + back,
                where,
                held.attempt,
                next_attempt=held.due,
            )
        case "behind":
            head = f", the first of them {held.head}" if held.head else ""
            why = f"behind {counted(held.ahead, 'message')} of its key{head}{back}"
            return Story("waiting", why, where, held.attempt, ahead=(held.ahead, held.ahead))
        case "held":
            return Story("waiting", "its shard is being taken over" + back, where, held.attempt)
        case _:
            return Story("queued", "it waits for a slot" + back, where, held.attempt)


def _given_up(facts: StoryFacts) -> Story | None:
    if facts.letter is None:
        return None
    letter = facts.letter
    parks = ""
    if facts.parks:
        parks = "; its key comes back" if facts.returning else "; its key waits behind it"
    back = "" if facts.sent_back_whole else f"; {_NOT_LOOKED_AT}"
    return Story(
        "dead", f"dead letter {letter.sequence}, {letter.reason}{parks}{back}", attempt=letter.attempts
    )


def _parked(facts: StoryFacts) -> Story | None:
    if not facts.parked:
        return None
    if facts.returning:
        return Story("returning", f"its key comes back; it stands in PARKED at {facts.parked}")
    behind = f"behind {facts.behind}" if facts.behind else "with its key"
    return Story("parked", f"{behind}, in PARKED at {facts.parked}")


def _gathered(facts: StoryFacts) -> Story | None:
    event = facts.gathering
    if event is None:
        return None
    of = f"{event.present} of {event.count} parts" if event.count >= 0 else counted(event.present, "part")
    if event.done:
        return Story("done", f"the function was called with {of}")
    if event.given_up:
        return Story(
            "dead", f"the function has failed with {of}: {event.runner} is its dead letter's message"
        )
    if event.runner:
        return Story("gathering", f"{of} are here; {event.runner} runs the function with them")
    if not event.present:
        return None
    return Story(
        "gathering", f"{of} are here: the function is called with all of them, or when their time is over"
    )


def _settled_by_mark(facts: StoryFacts) -> Story | None:
    return Story("done", "its key has come back past it") if facts.passed else None


def _failed(facts: StoryFacts) -> Story | None:
    """The story of a message that waits for its next attempt, by the record of its last one."""
    if facts.durable is not None and facts.durable.floor >= facts.sequence:
        return None
    if facts.failed is not None:
        where = f"; {facts.owner}, which owns its shard, does not answer" if facts.silent else ""
        why = f"it waits in the shard of its key{where}"
        return Story("retrying", why, attempt=facts.failed.count + 1, next_attempt=facts.failed.due)
    kept = facts.kept
    if kept is None or (facts.durable is not None and not facts.durable.unsettled) or facts.ordered:
        return None
    if kept.due > facts.now:
        return Story("retrying", attempt=kept.attempt + 1, next_attempt=kept.due)
    return None


def _never_its_own(facts: StoryFacts) -> Story | None:
    durable = facts.durable
    if durable is None or facts.outputs:
        return None
    if durable.new and facts.stored_ns < durable.created_ns:
        return Story("skipped", 'it was stored before the function first ran, which has deliver="new"')
    if durable.start > facts.sequence:
        return Story(
            "skipped",
            f"the durable begins at {durable.start}: an earlier one has settled it, or it was never to be read",
        )
    return None


def _by_floor(facts: StoryFacts) -> Story | None:
    durable = facts.durable
    if durable is None:
        if facts.drained:
            return _settled(facts, "its generation of shards is drained")
        return None
    if facts.sequence <= durable.floor:
        return _settled(facts)
    if facts.sequence <= durable.delivered and not durable.unsettled:
        return _settled(facts)
    return None


def _settled(facts: StoryFacts, why: str = "") -> Story:
    if not facts.there and not facts.outputs and facts.keeps and not facts.sent_back:
        return Story(
            "gone", "it is settled, or was removed from its stream before it ran: the server does not tell"
        )
    if not facts.letters_whole:
        return Story("done", "or a dead letter that was not looked at: there are too many")
    if not facts.sent_back_whole:
        return Story("done", _NOT_LOOKED_AT)
    return Story("done", why)


def _waiting(facts: StoryFacts) -> Story | None:
    durable = facts.durable
    if durable is None:
        if facts.ahead:
            return Story("waiting", "its shards open once those before are drained")
        if not facts.there:
            return Story(
                "gone", "its stream has let go of it, and nothing tells that the function has read it"
            )
        what = (
            "its shard has no durable yet: no instance has owned it"
            if facts.ordered
            else "the function has no durable yet: no instance has run it"
        )
        return Story("waiting", what)
    if facts.sequence <= durable.delivered:
        return None
    if not facts.there:
        return Story("gone", "its stream has let go of it before it was delivered")
    least, most = ahead(durable, facts.sequence, facts.last)
    count = f"{least:,}" if least == most else f"{least:,} to {most:,}"
    whose = " of its shard" if facts.ordered else ""
    why = f"behind {count} {'message' if most == 1 and least == most else 'messages'}{whose}"
    if durable.paused:
        why += f"; paused until {durable.paused}"
    elif not facts.answered:
        why += "; no instance that runs the function has answered"
    if facts.sent_back:
        why += f"; sent back as {facts.sent_back}"
    return Story("waiting", why, ahead=(least, most))


def _by_outputs(facts: StoryFacts) -> Story | None:
    if not facts.outputs:
        return None
    return Story(
        "done", f"{counted(facts.outputs, 'output')} of it {'is' if facts.outputs == 1 else 'are'} stored"
    )


def _unknown(facts: StoryFacts) -> Story:
    if not facts.there:
        return Story(
            "gone",
            "its stream has let go of it; it was delivered, and the server does not tell whether it is settled",
        )
    attempt = facts.kept.attempt + 1 if facts.kept is not None else 0
    if facts.silent:
        return Story(
            "unknown",
            f"delivered to {facts.owner}, which owns its shard and does not answer: it runs there, or is settled",
            facts.owner,
            attempt,
        )
    if facts.kept is not None and facts.kept.due <= facts.now:
        late = format_duration(max(0.001, round(facts.now - facts.kept.due, 3)))
        why = f"its next attempt was due {late} ago: it is settled, or has not been asked for, or was lost with its process less than 10 s ago"
        return Story("unknown", why, attempt=attempt)
    if not facts.answered:
        return Story(
            "unknown",
            "delivered; no instance that runs the function has answered: one that is frozen, blocked or cut off has it, or it is settled",
        )
    why = "settled, or lost with its process less than 10 s ago: then it is delivered again"
    return Story("unknown", why)


_RULES: tuple[Rule, ...] = (
    _in_hand,
    _given_up,
    _parked,
    _gathered,
    _settled_by_mark,
    _failed,
    _never_its_own,
    _by_floor,
    _waiting,
    _by_outputs,
)
