"""The context of an attempt that is not traced: the trace of its message, not sampled, and its baggage.

An instrumented HTTP client of a handler carries it on, so that no receiver begins a trace. It is read from the headers only when
needed, since most handlers do not need it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from opentelemetry.context import Context

from runner.core import acksubject
from runner.telemetry.keys import MESSAGE
from runner.telemetry.propagation import Propagation, TraceHeaders

if TYPE_CHECKING:
    from collections.abc import ItemsView, KeysView, ValuesView

PROPAGATE = "opentelemetry.propagate"
"""The module that code imports to carry a context on; the runner itself never imports it."""


class UntracedDelivery(Protocol):
    """A message as it was delivered."""

    reply: bytes
    sequence: int
    header: bytes | None
    attempt: int


Unsampled = Callable[["bytes | None", str, int, int], TraceHeaders]
"""Makes the headers of messages that are sent for a message that is not traced."""


class Passing(Context):
    """A context that is filled when it is first read."""

    __slots__ = ("_delivery", "_of")

    def __init__(self, of: Passings, delivery: UntracedDelivery) -> None:
        super().__init__()
        self._of: Passings | None = of
        self._delivery = delivery

    def _fill(self) -> None:
        of, self._of = self._of, None
        if of is not None:
            dict.update(self, of.read(self._delivery))

    def get(self, key: str, default: Any = None) -> Any:  # noqa: D102  as a dict's
        self._fill()
        return dict.get(self, key, default)

    def __getitem__(self, key: str) -> Any:
        self._fill()
        return dict.__getitem__(self, key)

    def __contains__(self, key: object) -> bool:
        self._fill()
        return dict.__contains__(self, key)

    def __iter__(self) -> Iterator[str]:
        self._fill()
        return dict.__iter__(self)

    def __len__(self) -> int:
        self._fill()
        return dict.__len__(self)

    def copy(self) -> dict[str, Any]:  # noqa: D102
        self._fill()
        return dict.copy(self)

    def keys(self) -> KeysView[str]:  # type: ignore[override]  # noqa: D102
        self._fill()
        return dict.keys(self)

    def values(self) -> ValuesView[Any]:  # type: ignore[override]  # noqa: D102
        self._fill()
        return dict.values(self)

    def items(self) -> ItemsView[str, Any]:  # type: ignore[override]  # noqa: D102
        self._fill()
        return dict.items(self)


class Passings:
    """Makes the contexts of one function's attempts that are not traced."""

    def __init__(self, propagation: Propagation, unsampled: Unsampled, function: str) -> None:
        self._propagation = propagation
        self._unsampled = unsampled
        self._function = function

    def __call__(self, delivery: UntracedDelivery) -> Passing:
        """Make the context of an attempt at this message."""
        return Passing(self, delivery)

    def read(self, delivery: UntracedDelivery) -> dict[str, Any]:
        """The content of the context."""
        message = (self._function, delivery)
        try:
            place = acksubject.parse(delivery.reply)
        except ValueError:
            return {MESSAGE: message}
        headers = self._unsampled(delivery.header, place.stream, place.stream_sequence, place.timestamp_ns)
        return {**self._propagation.extract(headers), MESSAGE: message}
