"""Values of one message, of a batch, or of the parts of an event that must not appear in text about them."""

from __future__ import annotations

from collections.abc import Sequence

from runner import arguments
from runner.core import header
from runner.core.redaction import MSGPACK, Rules, Values, all_of
from runner.jetstream.delivery import Delivery
from runner.pipeline.message import is_msgpack


class Hiding:
    """The hidden values of some messages; found when text about the messages is first shown."""

    __slots__ = ("_messages", "_rules", "_values")

    def __init__(self, rules: Rules, block: bytes | None, body: bytes) -> None:
        self._rules = rules
        self._messages = [(block, body)]
        self._values: Values | None = None

    @classmethod
    def of(cls, rules: Rules, delivery: Delivery) -> Hiding:
        """The hidden values of a delivery, and of the joined parts that its function runs with."""
        hiding = cls(rules, delivery.header, delivery.body)
        if (joined := delivery.joined) is not None:
            bodies = [body for _, body in arguments.parted(joined.body)]
            hiding._messages += zip(joined.headers, bodies, strict=True)
        return hiding

    @classmethod
    def of_all(cls, rules: Rules, deliveries: Sequence[Delivery]) -> Hiding:
        """The hidden values of a batch; found together, because a value of one message may be a part of another message's value."""
        first, *others = deliveries
        hiding = cls(rules, first.header, first.body)
        hiding._messages += [(each.header, each.body) for each in others]
        return hiding

    @property
    def values(self) -> Values:
        """All hidden values."""
        if self._values is None:
            self._values = all_of([self._of(*each) for each in self._messages])
        return self._values

    def __call__(self, text: str) -> str:
        """The text without the hidden values."""
        return self.values.hide(text)

    def _of(self, block: bytes | None, body: bytes) -> Values:
        pairs = header.pairs(block) if block is not None else ()
        return self._rules.values(pairs, body, MSGPACK if is_msgpack(block) else "")
