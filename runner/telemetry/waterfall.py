"""Draws a trace as lines of a terminal: one span a line, below its parent, in the order of time.

    trace 3f2a…, 3 spans, 2 services, 1.25 s
    charge   ✗ charge #1                 ██                    210 ms  retry, again in 0.8 s: ValueError
    charge   charge #2                               ███       240 ms  ack
    charge   └ send payments.c1.charged                ▏         2 ms

Roots of one trace, such as the attempts of a message that came without a trace, share one scale of time. With `waits`, dots before an
attempt's bar show how long the attempt has waited: since its message was sent, or since the previous attempt failed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

from runner.telemetry.span import Span

WIDTH = 100
LEAST_WAIT_NS = 10_000_000
"""Shortest wait that is shown."""
_LEAST_BAR = 10
_FRAME = re.compile(r'File "([^"]+)", line (\d+), in (\S+)')
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def lines(spans: Iterable[Span], width: int = WIDTH, *, waits: bool = False) -> list[str]:
    """Draw each trace among `spans`, `width` columns wide, earliest first; no lines for no spans.

    With `waits` each attempt shows its message and how long it has waited, and failures follow below.
    """
    traces: dict[str, dict[str, Span]] = {}
    for span in spans:
        traces.setdefault(span.trace_id, {})[span.span_id] = span  # a span may have been exported twice
    drawn: list[str] = []
    for trace_id, found in sorted(traces.items(), key=lambda item: min(s.start_ns for s in item[1].values())):
        trace = _trace(trace_id, list(found.values()), width, waits=waits)
        drawn += ["", *trace] if drawn else trace
    return drawn


def _trace(trace_id: str, spans: Sequence[Span], width: int, *, waits: bool) -> list[str]:
    rows = _rows(spans)
    begun = _begun(spans) if waits else {}
    start = min(span.start_ns for span in spans)
    length = max(1, max(span.end_ns for span in spans) - start)
    services = {span.service for span in spans}
    title = (
        f"trace {trace_id}, {_count(len(spans), 'span')}, {_count(len(services), 'service')}, {_time(length)}"
    )
    service = min(max(len(name) for name in services), max(8, width // 5))
    labels = [_label(span, depth) for span, depth in rows]
    notes = [
        ", ".join(filter(None, (*(_facts(span, begun) if waits else ()), _note(span)))) for span, _ in rows
    ]
    label = min(max(map(len, labels)), max(16, width * 2 // 5))
    rest = width - service - label - 15
    note = min(max(map(len, notes)), max(0, rest - max(_LEAST_BAR, rest // 2)))
    bar = max(_LEAST_BAR, rest - note)
    return [
        title,
        *(
            f"{_cut(span.service, service)}  {_cut(text, label)}  {_bar(span, start, length, bar, begun.get(span.span_id))}"
            f" {_time(span.end_ns - span.start_ns):>8}  {_cut(about, note)}".rstrip()
            for (span, _), text, about in zip(rows, labels, notes, strict=True)
        ),
        *(_failures(span for span, _ in rows) if waits else ()),
    ]


def _rows(spans: Sequence[Span]) -> list[tuple[Span, int]]:
    """The spans in depth-first order. A span whose parent is missing counts as a root; spans in a loop of parents are drawn once."""
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


def _begun(spans: Sequence[Span]) -> dict[str, int]:
    """When each attempt's wait began: when its message was sent, or when the previous attempt failed."""
    known = {span.span_id: span for span in spans}
    messages: dict[tuple[object, str], list[Span]] = {}
    for span in spans:
        if "jetrunner.attempt" in span.attributes:
            message = span.attributes.get("messaging.message.id")
            messages.setdefault((message, span.service), []).append(span)
    found = {}
    for attempts in messages.values():
        attempts.sort(key=lambda one: one.start_ns)
        parent = known.get(attempts[0].parent_id)
        if parent is not None and parent.kind in ("producer", "client"):
            found[attempts[0].span_id] = parent.end_ns
        for before, after in pairwise(attempts):
            found[after.span_id] = before.end_ns
    return {span_id: since for span_id, since in found.items() if since < known[span_id].start_ns}


def _facts(span: Span, begun: Mapping[str, int]) -> Iterator[str]:
    """The message of a span, and how long it has waited."""
    yield str(span.attributes.get("messaging.message.id", ""))
    since = begun.get(span.span_id)
    if since is not None and span.start_ns - since >= LEAST_WAIT_NS:
        yield f"after {_time(span.start_ns - since)}"


def _failures(spans: Iterable[Span]) -> Iterator[str]:
    """A whole line for each failure, since a note may have been cut."""
    for span in spans:
        if not span.failed:
            continue
        place = ""
        for event in span.events:
            frames = _FRAME.findall(str(event.attributes.get("exception.stacktrace", "")))
            if frames:
                file, line, function = frames[-1]
                place = f", at {file}:{line} in {function}"
        why = " ".join(span.status_message.split()) or "error"
        yield _plain(f"{_label(span, 0)}: {why}{place}")


def _note(span: Span) -> str:
    outcome = str(span.attributes.get("jetrunner.outcome", "")).replace("_", " ")
    for event in span.events:
        if event.name == "message.nak":
            outcome += f", again in {event.attributes.get('delay', 0):g} s"
        elif event.name == "message.term":
            outcome += f", {event.attributes.get('reason', '')}"
    message = (span.status_message or "error") if span.failed else ""
    return ": ".join(filter(None, (outcome, message))).replace("\n", " ")


def _bar(span: Span, start: int, length: int, width: int, since: int | None = None) -> str:
    first = (span.start_ns - start) * width // length
    eighths = max(1, round((span.end_ns - span.start_ns) * width * 8 / length))
    first = min(max(first, 0), width - 1)
    eighths = min(eighths, (width - first) * 8)
    filled = "█" * (eighths // 8) + (_EIGHTHS[eighths % 8] if eighths % 8 else "")
    dots = 0 if since is None else first - min(max((since - start) * width // length, 0), first)
    return (" " * (first - dots) + "·" * dots + filled).ljust(width)


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


def _plain(text: str) -> str:
    """Replace unprintable characters: names may come from anywhere, and no escape sequence may reach the terminal."""
    return text if text.isprintable() else "".join(one if one.isprintable() else "·" for one in text)


def _cut(text: str, width: int) -> str:
    text = _plain(text)
    return text.ljust(width) if len(text) <= width else text[: max(0, width - 1)] + "…" * (width > 0)
