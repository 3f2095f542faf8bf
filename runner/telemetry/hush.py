"""Keeps the exporters' own log lines, one a batch and try, out of the log.

The runner logs once that spans do not arrive, and why.
"""

from __future__ import annotations

import logging
import re
import threading
from typing import Self

_EXPORTERS = (
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.exporter.otlp.proto.http.metric_exporter",
)
_FOREIGN = (*_EXPORTERS, "opentelemetry.exporter.otlp.proto.common._internal", "opentelemetry.util.re")
_ERRNO = re.compile(r"\[Errno -?\d+\] ([^'\"<>)]+)")
_ANSWER = re.compile(
    r"(?:batch code: |Transient error )((?!None)[^(\n]+?)(?: encountered while|$)", re.MULTILINE
)
LONGEST = 100
"""Longest reason, in characters."""


class Hush(logging.Filter):
    """A filter that removes the exporters' own log lines in threads that are exporting for us."""

    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.local()
        for name in _FOREIGN:
            logging.getLogger(name).addFilter(self)

    def __enter__(self) -> Self:
        self._thread.lines = []
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.lines = None

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep an exporter's line for `reason`, if this thread exports for us."""
        lines: list[str] | None = getattr(self._thread, "lines", None)
        if lines is None:
            return True
        if record.name in _EXPORTERS:
            lines.append(record.getMessage())
        return False

    @property
    def reason(self) -> str:
        """A short reason why the export that just ended failed."""
        text: str = (self._thread.lines or [""])[0]
        if "CERTIFICATE_VERIFY_FAILED" in text:
            return "its certificate is not trusted"
        if found := _ERRNO.search(text) or _ANSWER.search(text):
            return found[1].strip()[:LONGEST]
        if "timed out" in text:
            return "no answer in time"
        return (
            "no connection, or no answer in time"
            if "due to timeout" in text
            else text.partition("\n")[0].partition(": ")[0][:LONGEST]
        )

    @property
    def undecodable(self) -> bool:
        """Whether the batch was never sent, because one of its spans cannot be encoded."""
        return any(line.startswith("Failed to encode") for line in self._thread.lines or ())

    def hear(self, text: str) -> None:
        """Use this text as the reason: the exporter has raised or returned it, besides its lines."""
        self._thread.lines.insert(0, text)

    def close(self) -> None:
        """Remove the filter from the log."""
        for name in _FOREIGN:
            logging.getLogger(name).removeFilter(self)
