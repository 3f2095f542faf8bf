"""Queries for spans, to the receiver of a running `runner dev`, or to a Jaeger."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from runner.telemetry import jaeger
from runner.telemetry.span import Span, SpanEvent, SpanLink

PATIENCE_SECONDS = 5.0
LARGEST = 64 << 20
"""Largest answer, in bytes."""
TRACES = 20
"""Most traces of one message that are taken from one service."""
SERVICES = 200
DAYS = 30
"""How far back a message is looked for, in days."""


class Unanswered(Exception):  # noqa: N818  named by what happened
    """No answer comes from there, or not a valid one."""


class DevTraces:
    """The receiver of `runner dev`."""

    def __init__(self, url: str) -> None:
        self.url = url

    def trace(self, trace_id: str) -> list[Span]:
        """The spans of a trace. Raises `Unanswered`."""
        return self._spans(trace=trace_id)

    def message(self, message_id: str) -> list[Span]:
        """The spans of every trace in which a message was sent or handled. Raises `Unanswered`."""
        return self._spans(message=message_id)

    def _spans(self, **query: str) -> list[Span]:
        body = _get(f"{self.url}/spans?{urllib.parse.urlencode(query)}")
        try:
            return [_span(each) for each in msgspec.json.decode(body, type=list[dict[str, Any]])]
        except (msgspec.DecodeError, ValueError, TypeError, KeyError):
            raise Unanswered(f"{self.url} does not answer with spans") from None


class Jaeger:
    """A Jaeger's query API."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def trace(self, trace_id: str) -> list[Span]:
        """The spans of a trace. Raises `Unanswered`."""
        return self._spans(f"/api/traces/{urllib.parse.quote(trace_id)}")

    def message(self, message_id: str) -> list[Span]:
        """The spans of every trace in which a message was sent or handled. Raises `Unanswered`."""
        now = time.time()
        about = {
            "tags": json.dumps({"messaging.message.id": message_id}),
            "limit": str(TRACES),
            "start": str(int((now - DAYS * 86_400) * 1e6)),
            "end": str(int((now + 3_600) * 1e6)),
        }
        found: list[Span] = []
        for service in self._services():
            found += self._spans(f"/api/traces?{urllib.parse.urlencode({'service': service, **about})}")
        return found

    def _services(self) -> Sequence[str]:
        try:
            told = json.loads(_get(f"{self.url}/api/services"))["data"] or []
            return [each for each in told if isinstance(each, str)][:SERVICES]
        except (ValueError, KeyError, TypeError):
            raise Unanswered(f"{self.url} does not answer as Jaeger does") from None

    def _spans(self, path: str) -> list[Span]:
        body = _get(self.url + path)
        try:
            return jaeger.decode(body) if body else []
        except (msgspec.DecodeError, ValueError):
            raise Unanswered(f"{self.url} does not answer as Jaeger does") from None


def once(spans: Iterable[Span]) -> list[Span]:
    """Each span once: the first that was found."""
    found: dict[tuple[str, str], Span] = {}
    for span in spans:
        found.setdefault((span.trace_id, span.span_id), span)
    return list(found.values())


def _span(told: dict[str, Any]) -> Span:
    """A span as the receiver writes it. msgspec has no recursive types, as values of attributes are."""
    events = tuple(SpanEvent(**each) for each in told.pop("events"))
    links = tuple(SpanLink(**each) for each in told.pop("links"))
    return Span(**told, events=events, links=links)


def _get(url: str) -> bytes:
    """The body of an answer; empty if there is no such thing. Raises `Unanswered`."""
    parts = urllib.parse.urlsplit(url)
    place = parts._replace(netloc=parts.netloc.rpartition("@")[2], path="", query="").geturl()
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE_SECONDS) as answer:  # noqa: S310  the settings take http(s) alone
            return bytes(answer.read(LARGEST))
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 404:
            return b""
        raise Unanswered(f"{place} answers {error.code}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise Unanswered(f"{place}: {getattr(reason, 'strerror', None) or reason}") from None
