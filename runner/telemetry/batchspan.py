"""The span of one call with many messages: a trace of its own, since the messages belong to many traces.

It links to the traced attempts of its messages. Each of those spans links back to it, and names it in its attributes. A one-way
link would lead a reader nowhere, and so would a link whose attributes a page does not show.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import Token
from random import getrandbits
from time import time_ns
from typing import cast

from opentelemetry.context import Context, set_value
from opentelemetry.trace import Link, SpanKind, format_span_id, format_trace_id

from runner.core import otlp
from runner.telemetry import failure
from runner.telemetry.attempt import AttemptSpan
from runner.telemetry.keys import ADMITTED, CURRENT, HIDE, SERVICE, SPAN
from runner.telemetry.ownspan import SAMPLED, OwnSpan
from runner.telemetry.sdkspan import AnySpan, SdkSpan
from runner.telemetry.source import Attributes, SpanSource, new_id


class BatchSpan:
    """A span that has begun, and is current in the handler until `leave`."""

    def __init__(self, span: AnySpan, function: str, hide: failure.Hide) -> None:
        """`hide` removes the hidden values of all its messages from texts."""
        self._span = span
        self._function = function
        self._hide = hide
        self._active: Token[Context] | None = None

    def activate(self) -> None:
        """Make the span current: spans of the handler's code nest in it."""
        context = {SPAN: self._span.current, SERVICE: self._function, HIDE: self._hide}
        self._active = CURRENT.set(cast("Context", context))

    def leave(self, error: BaseException | str | None = None) -> None:
        """End the span at the end of the call, in the same task."""
        token, self._active = self._active, None
        if token is not None:
            CURRENT.reset(token)
        if error is not None:
            failure.record(self._span, error, hide=self._hide)
        self._span.finish()


def start(
    source: SpanSource,
    function: str,
    same: Mapping[str, str | int | float],
    count: int,
    attempts: Sequence[AttemptSpan],
    hide: failure.Hide,
) -> BatchSpan:
    """Start the span of a call with `count` messages; `attempts` are the traced ones among their attempts."""
    attributes: Attributes = {**same, "messaging.batch.message_count": count}
    name = failure.clean(function)
    if (lane := source.lane(function)) is not None:
        parts = [otlp.kind(otlp.CONSUMER, name), otlp.attributes(attributes)]
        parts += [otlp.link(*each.ids) for each in attempts]
        trace_id = (getrandbits(128) or 1).to_bytes(16, "big")
        flags = SAMPLED if any(each.sampled for each in attempts) else 0
        root = otlp.parent(None, remote=False)
        span = OwnSpan(lane, trace_id, new_id(), root, flags, time_ns(), parts)
        _link_back(attempts, span)
        return BatchSpan(span, function, hide)
    # `services.py` raises the SDK's limit on links for them.
    links = [Link(each.context) for each in attempts]
    made = source.tracer(function).start_span(
        name, set_value(ADMITTED, True, Context()), SpanKind.CONSUMER, attributes, links
    )
    _link_back(attempts, sdk := SdkSpan(made, tells_exceptions=source.tells_exceptions))
    return BatchSpan(sdk, function, hide)


def _link_back(attempts: Sequence[AttemptSpan], span: AnySpan) -> None:
    context = span.get_span_context()
    names: dict[str, otlp.Value] = {
        "jetrunner.batch.trace_id": format_trace_id(context.trace_id),
        "jetrunner.batch.span_id": format_span_id(context.span_id),
    }
    link = otlp.link(context.trace_id.to_bytes(16, "big"), context.span_id.to_bytes(8, "big"))
    encoded = link + otlp.attributes(names)
    for each in attempts:
        each.link(context, names, encoded)
