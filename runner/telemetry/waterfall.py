"""A trace as lines of a terminal: one span a line, in the order of time below its parent.

    trace 3f2a…, 3 spans, 2 services, 1.25 s
    charge   ✗ charge #1                 ██                    210 ms  retry, again in 0.8 s: ValueError
    charge   charge #2                               ███       240 ms  ack
    charge   └ send payments.c1.charged                ▏         2 ms

Roots of one trace (the attempts of a message that came without a trace) share one scale of time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from runner.telemetry.span import Span

WIDTH = 100
_LEAST_BAR = 10
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def lines(spans: Iterable[Span], width: int = WIDTH) -> list[str]:
    """Draw each trace among `spans`, `width` columns wide, earliest first; nothing for no spans."""
    traces: dict[str, dict[str, Span]] = {}
    for span in spans:
        traces.setdefault(span.trace_id, {})[span.span_id] = span  # a span may have been exported twice
    drawn: list[str] = []
    for trace_id, found in sorted(traces.items(), key=lambda item: min(s.start_ns for s in item[1].values())):
        drawn += (
            ["", *_trace(trace_id, list(found.values()), width)]
            if drawn
            else _trace(trace_id, [*found.values()], width)
        )
    return drawn


def _trace(trace_id: str, spans: Sequence[Span], width: int) -> list[str]:
    rows = _rows(spans)
    start = min(span.start_ns for span in spans)
    length = max(1, max(span.end_ns for span in spans) - start)
    services = {span.service for span in spans}
    title = (
        f"trace {trace_id}, {_count(len(spans), 'span')}, {_count(len(services), 'service')}, {_time(length)}"
    )
    service = min(max(len(name) for name in services), max(8, width // 5))
    labels = [_label(span, depth) for span, depth in rows]
    notes = [_note(span) for span, _ in rows]
    label = min(max(map(len, labels)), max(16, width * 2 // 5))
    rest = width - service - label - 15
    note = min(max(map(len, notes)), max(0, rest - max(_LEAST_BAR, rest // 2)))
    bar = max(_LEAST_BAR, rest - note)
    return [
        title,
        *(
            f"{_cut(span.service, service)}  {_cut(text, label)}  {_bar(span, start, length, bar)}"
            f" {_time(span.end_ns - span.start_ns):>8}  {_cut(about, note)}".rstrip()
            for (span, _), text, about in zip(rows, labels, notes, strict=True)
        ),
    ]


def _rows(spans: Sequence[Span]) -> list[tuple[Span, int]]:
    """Depth first; a span whose parent is not here counts as a root, one in a loop of parents is not drawn twice."""
    known = {span.span_id for span in spans}
    children: dict[str, list[Span]] = {}
    for span in sorted(spans, key=lambda one: (one.start_ns, one.span_id), reverse=True):
        children.setdefault(span.parent_id if span.parent_id in known else "", []).append(span)
    rows: list[tuple[Span, int]] = []
    waiting = [(span, 0) for span in children.pop("", [])]
    while waiting or children:
        if not waiting:  # only loops are left: begin with any of their spans
            waiting = [(span, 0) for span in children.pop(next(iter(children)))]
        span, depth = waiting.pop()
        rows.append((span, depth))
        waiting += [(child, depth + 1) for child in children.pop(span.span_id, [])]
    return rows


def _label(span: Span, depth: int) -> str:
    mark = "✗ " if span.failed else ""
    attempt = span.attributes.get("jetrunner.attempt")
    number = f" #{attempt}" if attempt is not None else ""
    return "  " * max(0, depth - 1) + ("└ " if depth else "") + f"{mark}{span.name}{number}"


def _note(span: Span) -> str:
    outcome = str(span.attributes.get("jetrunner.outcome", "")).replace("_", " ")
    for event in span.events:
        if event.name == "message.nak":
            outcome += f", again in {event.attributes.get('delay', 0):g} s"
        elif event.name == "message.term":
            outcome += f", {event.attributes.get('reason', '')}"
    message = (span.status_message or "error") if span.failed else ""
    return ": ".join(filter(None, (outcome, message))).replace("\n", " ")


def _bar(span: Span, start: int, length: int, width: int) -> str:
    first = (span.start_ns - start) * width // length
    eighths = max(1, round((span.end_ns - span.start_ns) * width * 8 / length))
    first = min(max(first, 0), width - 1)
    eighths = min(eighths, (width - first) * 8)
    filled = "█" * (eighths // 8) + (_EIGHTHS[eighths % 8] if eighths % 8 else "")
    return (" " * first + filled).ljust(width)


def _time(nanoseconds: int) -> str:
    if nanoseconds >= 60_000_000_000:
        return f"{nanoseconds / 60e9:.1f} min"
    if nanoseconds >= 1_000_000_000:
        return f"{nanoseconds / 1e9:.2f} s"
    if nanoseconds >= 10_000_000:
        return f"{nanoseconds / 1e6:.0f} ms"
    return (
        f"{nanoseconds / 1e6:.1f} ms" if nanoseconds >= 1_000_000 else f"{max(0, nanoseconds) / 1e3:.0f} µs"
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _cut(text: str, width: int) -> str:
    if not text.isprintable():  # names come from anywhere: no escape sequence may reach the terminal
        text = "".join(one if one.isprintable() else "·" for one in text)
    return text.ljust(width) if len(text) <= width else text[: max(0, width - 1)] + "…" * (width > 0)
