"""The exporters' own lines: one a batch and try. They are kept from the log, for we tell once that nothing arrives, and why."""

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
"""Characters of a reason."""


class Hush(logging.Filter):
    """Keeps the exporter's own lines (one a batch and try) from the log, in a thread that is exporting for us."""

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
        """Keep a line of theirs for `reason`, in a thread that exports for us."""
        lines: list[str] | None = getattr(self._thread, "lines", None)
        if lines is None:
            return True
        if record.name in _EXPORTERS:
            lines.append(record.getMessage())
        return False

    @property
    def reason(self) -> str:
        """Why the export that just ended failed, short."""
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
        """Take this for the reason: an exporter has raised it, or gives it back besides its lines."""
        self._thread.lines.insert(0, text)

    def close(self) -> None:
        """Leave the log alone."""
        for name in _FOREIGN:
            logging.getLogger(name).removeFilter(self)
