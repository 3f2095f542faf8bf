"""Reports of each request: its span, a line in the log if it failed, and a call of the observer."""

from __future__ import annotations

import logging
import time
from functools import partial

from runner.bindings import Binding
from runner.core import answered, raised
from runner.core.answered import Answered
from runner.core.redaction import NONE, Values
from runner.core.service import LATE, UNAVAILABLE
from runner.core.settlement import Failed, Outcome, Succeeded
from runner.core.signals import Reject, Retry
from runner.pipeline.hiding import Hiding
from runner.pipeline.reporter import error_of, say, trace_id_of
from runner.runtime.blame import where
from runner.runtime.runtime import Attempted, Runtime
from runner.services.request import Request
from runner.telemetry.requestspans import RequestSpan

log = logging.getLogger("jetrunner.requests")


class Reports:
    """Reports the requests of one function."""

    def __init__(self, runtime: Runtime, binding: Binding) -> None:
        self._tracing = runtime.tracing
        self._observer = runtime.observer
        self._root = runtime.root
        self._rules = runtime.redaction
        self._function = binding.function
        hiding = partial(Hiding, runtime.redaction)
        self._spans = runtime.tracing.request_spans(binding.function, binding.subject.text, hiding)
        self.begin = self._spans.begin
        """Starts the span of a request that the gate has admitted."""
        self.observes = runtime.observer is not None

    def hidden(self, request: Request) -> Values:
        """The values of a request that must not be shown."""
        return Hiding(self._rules, request.header, request.body).values

    def succeeded(self, request: Request, seconds: float) -> None:
        """Tell the observer of a request that succeeded, if there is an observer."""
        self._observe(request, Succeeded(), answered.SUCCEEDED, seconds, NONE)

    def failed(
        self, request: Request, outcome: Outcome, answer: Answered, seconds: float, hidden: Values
    ) -> None:
        """Log a request that did not succeed, end its span, and tell the observer."""
        span: RequestSpan | None = request.span
        if span is None and self._tracing.enabled and self._tracing.gate.admit_late():
            ago = time.monotonic() - request.started if request.started else 0.0
            span = request.span = self._spans.start(request, time.time_ns() - int(ago * 1e9))
        self._say(span, request, outcome, answer, hidden)
        if span is not None:
            error = error_of(outcome)
            if answer.faulty:
                span.end_failed(answer.code, error, hide=hidden.hide)
            else:
                span.end_refused(answer.code, error if isinstance(error, str) else raised.name(error))
        self._observe(request, outcome, answer, seconds, hidden)

    def _observe(
        self, request: Request, outcome: Outcome, answer: Answered, seconds: float, hidden: Values
    ) -> None:
        if self._observer is None:
            return
        span: RequestSpan | None = request.span
        shown = span is not None and span.sampled and self._tracing.arriving
        self._observer(
            Attempted(
                function=self._function,
                message_id=request.text,
                number=1,
                outcome=outcome,
                settlement=answer,
                seconds=seconds,
                trace_id=span.trace_id if span is not None and shown else "",
                hidden=hidden,
            )
        )

    def _say(
        self, span: RequestSpan | None, request: Request, outcome: Outcome, answer: Answered, hidden: Values
    ) -> None:
        level = logging.WARNING if answer.faulty else logging.INFO
        if not log.isEnabledFor(level):
            return
        error = outcome.error if isinstance(outcome, Failed) else None
        place, trace_id = where(outcome, self._root), trace_id_of(span, request.header)
        shown = error if place and log.isEnabledFor(logging.DEBUG) else None
        if isinstance(error, (Reject, Retry)):
            shown = None
        why = hidden.hide(answer.text)
        facts = {
            "function": self._function, "subject": request.text, "code": answer.code, "error": why,
            "where": place, "trace_id": trace_id,
        }  # fmt: skip
        more = f"{place and f', at {place}'}{trace_id and f', trace {trace_id}'}"
        what = "a request" if request.reply else "a request that nobody waits for"
        text = "%s: %s on %s was answered %d: %s%s"
        words = (text, self._function, what, request.text, answer.code, why, more)
        say(level, words, shown, hidden, facts, log)

    def cut_off(self, request: Request, why: str) -> None:
        """End the span of a request whose handler was cancelled because the process ends."""
        if request.span is not None:
            request.span.end_failed(UNAVAILABLE, why, "cancelled")

    def late_end(self, request: Request) -> None:
        """Log the end of a handler whose asker was told earlier that it took too long."""
        log.warning("%s: the handler that ignored its timeout has ended: %s", self._function, request.text)

    def held(self, seconds: float) -> None:
        """Log that a handler ignores its timeout."""
        log.error(
            "%s: a handler ignores its timeout (%.3g s) and holds its slot until it ends; its asker was told %d",
            self._function,
            seconds,
            LATE,
        )
