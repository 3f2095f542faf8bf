"""What is not shown of one message, of a batch, or of the parts of an event, in text that tells of it."""

from __future__ import annotations

from collections.abc import Sequence

from runner import arguments
from runner.core import header
from runner.core.redaction import MSGPACK, Rules, Values, all_of
from runner.jetstream.delivery import Delivery
from runner.pipeline.message import is_msgpack


class Hiding:
    """Found when text about it is first shown."""

    __slots__ = ("_messages", "_rules", "_values")

    def __init__(self, rules: Rules, block: bytes | None, body: bytes) -> None:
        self._rules = rules
        self._messages = [(block, body)]
        self._values: Values | None = None

    @classmethod
    def of(cls, rules: Rules, delivery: Delivery) -> Hiding:
        """That of a delivery, with the parts that its function runs with."""
        hiding = cls(rules, delivery.header, delivery.body)
        if (joined := delivery.joined) is not None:
            bodies = [body for _, body in arguments.parted(joined.body)]
            hiding._messages += zip(joined.headers, bodies, strict=True)
        return hiding

    @classmethod
    def of_all(cls, rules: Rules, deliveries: Sequence[Delivery]) -> Hiding:
        """That of a batch: what is hidden of one message may be a part of what is hidden of another."""
        first, *others = deliveries
        hiding = cls(rules, first.header, first.body)
        hiding._messages += [(each.header, each.body) for each in others]
        return hiding

    @property
    def values(self) -> Values:
        """All of it."""
        if self._values is None:
            self._values = all_of([self._of(*each) for each in self._messages])
        return self._values

    def __call__(self, text: str) -> str:
        """The text without it."""
        return self.values.hide(text)

    def _of(self, block: bytes | None, body: bytes) -> Values:
        pairs = header.pairs(block) if block is not None else ()
        return self._rules.values(pairs, body, MSGPACK if is_msgpack(block) else "")
