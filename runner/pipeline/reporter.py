"""The span of each attempt: whether there is one, its attributes, and its end."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Sequence
from functools import partial
from typing import Protocol

from msgspec import Struct

from runner.bindings import Binding
from runner.core import identity, raised, traceparent
from runner.core.kepterror import KeptError
from runner.core.redaction import NONE, Values
from runner.core.settlement import Ack, Dead, Failed, Nak, Outcome, Settlement, TimedOut, Undecodable, failure
from runner.jetstream.delivery import Delivery
from runner.pipeline.firingfacts import about_firing
from runner.pipeline.hiding import Hiding
from runner.pipeline.message import SENT_BACK, Incoming, read, traced_in
from runner.runtime.blame import trace_of, where
from runner.runtime.runtime import Attempted, Runtime
from runner.telemetry.attempt import AttemptSpan
from runner.telemetry.failure import facts as exception_facts
from runner.telemetry.functionspans import PARTITION, shard_of
from runner.telemetry.propagation import TraceHeaders
from runner.telemetry.tracing import AttemptFacts

log = logging.getLogger("jetrunner.attempts")


class Ran(Struct, frozen=True):
    """Number and duration of an attempt; read before its delivery is made ready for the next one."""

    attempt: int
    seconds: float
    """Seconds since its handler started; 0.0 if it never did."""


def ran(delivery: Delivery) -> Ran:
    """The attempt that has just ended."""
    return Ran(delivery.attempt, time.monotonic() - delivery.started if delivery.started else 0.0)


class CallSpan(Protocol):
    """The span of a call of a handler."""

    def activate(self) -> None:
        """Make the span current."""

    def leave(self, error: BaseException | str | None = None) -> None:
        """The call has ended, in the same task."""


class Reporter:
    """The attempts of one function, as traces and the observer see them."""

    def __init__(self, runtime: Runtime, binding: Binding) -> None:
        self._tracing = runtime.tracing
        self._observer = runtime.observer
        self._kept = runtime.errors
        self._now = runtime.connection.clock.now
        self._instance = runtime.instance
        self._root = runtime.root
        self._rules = runtime.redaction
        self._function = binding.function
        self._template = binding.subject.text
        self._attempts = binding.retry.attempts
        self._schedule = binding.schedule
        self._durable = binding.durable or identity.durable(runtime.project, binding.function)
        self._spans = runtime.tracing.spans(
            self._function, self._durable, self._template, self._attempts, partial(Hiding, self._rules),
            ordered=bool(binding.ordered_by),
        )  # fmt: skip

    def hiding(self, incoming: Incoming) -> Hiding:
        """The values of a message that are not shown."""
        return Hiding.of(self._rules, incoming.delivery)

    def passed_on(self, incoming: Incoming) -> TraceHeaders:
        """Headers that pass on the trace of a message that is not traced here."""
        block, place = incoming.delivery.header, incoming.origin
        return self._tracing.unsampled_headers(block, place.stream, place.sequence, place.timestamp_ns)

    def begin(self, delivery: Delivery) -> AttemptSpan:
        """A span for an attempt that the gate has admitted, and that begins now; the usual case takes a fast way."""
        span = None
        if not delivery.subject.startswith(SENT_BACK):
            span = self._spans.begin(delivery)
        return span or self._tracing.start_attempt(self._function, **self._facts(read(delivery)))

    def batch(self, deliveries: Sequence[Delivery]) -> CallSpan | None:
        """The span of a call with these messages, current until it is left; None if none of them is traced."""
        attempts = [each.span for each in deliveries if each.span is not None]
        if not attempts:
            return None
        # A single message needs only its own trace.
        several = len(deliveries) > 1
        span: CallSpan = (
            self._spans.batch(len(deliveries), attempts, Hiding.of_all(self._rules, deliveries))
            if several
            else attempts[0]
        )
        span.activate()
        return span

    def start(self, incoming: Incoming, admitted: bool) -> AttemptSpan | None:
        """A span for an attempt that begins now; None if it is not traced."""
        tracing = self._tracing
        if not tracing.enabled:
            return None
        if admitted or (incoming.delivery.attempt > 1 and tracing.gate.admit_late()):
            span = tracing.start_attempt(self._function, **self._facts(incoming))
            if (joined := incoming.delivery.joined) is not None:
                span.join(joined.headers, traced_in(incoming.delivery))
                span.hide_with(self.hiding(incoming))
            return span
        return None

    def late(self, incoming: Incoming) -> AttemptSpan | None:
        """A span for an attempt that was not traced and failed."""
        if not self._tracing.enabled:
            return None
        started = incoming.delivery.started
        ago = time.monotonic() - started if started else 0.0
        facts = self._facts(incoming)
        facts["start_ns"] = time.time_ns() - int(ago * 1e9)
        return self._tracing.late_attempt(self._function, **facts)

    def end(
        self,
        span: AttemptSpan | None,
        incoming: Incoming,
        settlement: Settlement,
        outcome: Outcome,
        ended: Ran,
        hide: Hiding | None = None,
    ) -> None:
        """The attempt is settled; if it did not succeed, `hide` has the values that are not shown."""
        hidden = hide.values if hide is not None else NONE
        if not isinstance(settlement, Ack):
            self._tell(span, incoming, settlement, outcome, ended, hidden)
        if span is not None:
            match settlement:
                case Ack():
                    span.end_ack()
                case Nak(delay):
                    span.end_retry(error_of(outcome), delay, ended.attempt + 1, hidden.hide)
                case Dead():
                    span.end_dead_letter(
                        settlement.reason, settlement.error_object or settlement.message or None, hidden.hide
                    )
        if self._observer is not None:
            shown = span is not None and span.sampled and self._tracing.arriving
            self._observer(
                Attempted(
                    function=self._function,
                    message_id=incoming.id,
                    number=ended.attempt,
                    outcome=outcome,
                    settlement=settlement,
                    seconds=ended.seconds,
                    trace_id=span.trace_id if span is not None and shown else "",
                    hidden=hidden,
                )
            )

    def keep(
        self,
        span: AttemptSpan | None,
        incoming: Incoming,
        outcome: Outcome,
        ended: Ran,
        hide: Hiding,
        delay: float,
    ) -> None:
        """Keep the error of an attempt that is retried in `delay` seconds; returns at once."""
        last = failure(outcome)
        if last is None or not self._kept.admit(self._function):
            return
        error, now = outcome.error if isinstance(outcome, Failed) else None, self._now()
        kept = KeptError(
            stored=incoming.origin.timestamp_ns, attempt=ended.attempt, attempts=self._attempts, time=now, due=now + delay,
            error=last.error, message=hide(last.message), where=where(outcome, self._root), traceback=hide(trace_of(error)),
            instance=self._instance, trace_id=trace_id_of(span, incoming.delivery.header),
        )  # fmt: skip
        self._kept.keep(self._function, incoming.origin.stream, incoming.origin.sequence, kept)

    def _tell(
        self,
        span: AttemptSpan | None,
        incoming: Incoming,
        settlement: Nak | Dead,
        outcome: Outcome,
        ended: Ran,
        hidden: Values,
    ) -> None:
        """Log what went wrong, where in the code, and in which trace it can be seen.

        At level debug the traceback is logged, too.
        """
        place, trace_id = where(outcome, self._root), trace_id_of(span, traced_in(incoming.delivery))
        facts = {
            "function": self._function, "message_id": incoming.id, "attempt": ended.attempt, "where": place,
            "trace_id": trace_id,
        }  # fmt: skip
        failed = error_of(outcome)
        if self._tracing.logs_exceptions and isinstance(failed, BaseException):
            facts |= exception_facts(failed, hidden.hide)
        error = failed if place and log.isEnabledFor(logging.DEBUG) else None
        raised_here = error if isinstance(error, BaseException) else None
        more = f"{place and f', at {place}'}{trace_id and f', trace {trace_id}'}"
        match settlement:
            case Nak(delay):
                why = hidden.hide(told(outcome))
                say(
                    logging.INFO,
                    ("%s: attempt %d of %d at %s failed; retrying in %.3g s: %s%s", self._function, ended.attempt, self._attempts, incoming.id, delay, why, more),
                    raised_here, hidden, {**facts, "error": why, "retry_after": delay},
                )  # fmt: skip
            case Dead(reason, _, message, cause):
                why = hidden.hide(told(outcome) if cause is not None else message)
                say(
                    logging.WARNING,
                    ("%s: %s is a dead letter, %s: %s%s", self._function, incoming.id, reason, why, more),
                    raised_here, hidden, {**facts, "error": why, "reason": reason},
                )  # fmt: skip

    def _facts(self, incoming: Incoming) -> AttemptFacts:
        delivery, origin, joined = incoming.delivery, incoming.origin, incoming.delivery.joined
        facts: AttemptFacts = {
            "durable": self._durable,
            "subject": origin.subject if joined is None else joined.subject.decode(errors="surrogateescape"),
            "template": self._template,
            "stream": origin.stream,
            "sequence": origin.sequence,
            "timestamp_ns": origin.timestamp_ns,
            "attempt": delivery.attempt,
            "attempts": self._attempts,
            "header": traced_in(delivery),
            "body_size": len(delivery.body),
            "hide": self.hiding(incoming),
            "delivery": delivery,
        }
        if self._schedule is not None:
            facts["more"] = about_firing(self._schedule, delivery.header, origin.timestamp_ns)
        elif (shard := shard_of(delivery)) is not None:
            facts["more"] = {PARTITION: str(shard)}
        if joined is not None and joined.missing:
            facts["more"] = {"jetrunner.gather.missing": len(joined.missing)}
        return facts


def say(
    level: int,
    text: tuple[object, ...],
    error: BaseException | None,
    hidden: Values,
    facts: object,
    log: logging.Logger = log,
) -> None:
    """Log a text with its arguments. If values are hidden, the traceback is logged as text, so that no log handler writes them."""
    if not log.isEnabledFor(level):
        return
    if error is None or not hidden:
        log.log(level, *text, exc_info=error, extra={"facts": facts})
        return
    record = log.makeRecord(log.name, level, __file__, 0, text[0], text[1:], None, extra={"facts": facts})
    record.exc_text = hidden.hide("".join(traceback.format_exception(error)).rstrip("\n"))
    log.handle(record)


def trace_id_of(span: AttemptSpan | None, block: bytes | None) -> str:
    """The trace id to name with a failure; from the headers if there is no span, and empty if there is no trace."""
    if span is not None:
        return span.trace_id
    parent = traceparent.sent_in(block)
    return parent.trace_id if parent is not None else ""


def error_of(outcome: Outcome) -> BaseException | str:
    """The error of an outcome, for a span or a line of output."""
    match outcome:
        case Failed(error) | Undecodable(error):
            return error
        case TimedOut(seconds):
            return TimeoutError(f"no result within {seconds:g} s")
        case _:
            return type(outcome).__name__.lower()


def told(outcome: Outcome) -> str:
    """The error of an outcome, in one line of a log."""
    error = error_of(outcome)
    return raised.line(error) if isinstance(error, BaseException) else error
