"""Spans as an indented text that a test can hold against what it expects: no ids, no times."""

from __future__ import annotations

from collections.abc import Iterable

from runner.telemetry.span import Attributes, Span


def tree(spans: Iterable[Span]) -> str:
    """One span a line, `service: name kind …`, children below their parents, in order of their start."""
    known = {span.span_id: span for span in spans}
    ordered = sorted(known.values(), key=lambda span: span.start_ns)
    lines: list[str] = []

    def draw(span: Span, depth: int) -> None:
        lines.append("  " * depth + _line(span))
        for child in ordered:
            if child.parent_id == span.span_id:
                draw(child, depth + 1)

    for span in ordered:
        if span.parent_id not in known:
            draw(span, 0)
    return "\n".join(lines)


def _line(span: Span) -> str:
    parts = [f"{span.service}: {span.name} {span.kind}"]
    if "jetrunner.attempt" in span.attributes:
        parts.append(f"{span.attributes['jetrunner.attempt']}/{span.attributes['jetrunner.attempts']}")
        parts.append(str(span.attributes.get("jetrunner.outcome", "?")))
    if span.failed:
        parts.append(f"error={span.attributes.get('error.type')}")
    parts += [f"{event.name}{_facts(event.attributes)}" for event in span.events]
    parts += ["link"] * len(span.links)
    return " ".join(parts)


def _facts(attributes: Attributes) -> str:
    shown = {name: value for name, value in attributes.items() if not name.startswith("exception.")}
    return "{" + ",".join(f"{name}={value}" for name, value in shown.items()) + "}" if shown else ""
