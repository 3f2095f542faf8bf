"""An error as a span tells it: its type, message and traceback."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import TypeAlias

from runner.core import raised
from runner.telemetry.sdkspan import AnySpan

Hide: TypeAlias = Callable[[str], str]
LONGEST_MESSAGE = 1_024
LONGEST_TRACEBACK = 16_384
"""Longest traceback in characters. A longer one loses its beginning, because the last lines say most."""


def record(span: AnySpan, error: BaseException | str, kind: str = "", hide: Hide = str) -> None:
    """Mark the span as failed. If the error is a text, `kind` is its type; without `kind` the text is.

    `hide` removes hidden values from texts.
    """
    if not span.recording:
        return
    if isinstance(error, str):
        span.note("error.type", kind or error)
        span.failed(clean(hide(error))[:LONGEST_MESSAGE])
        return
    kind, message = _type_of(error), clean(hide(raised.text(error)))[:LONGEST_MESSAGE]
    span.note("error.type", kind)
    if span.tells_exceptions:
        # Not by the SDK's record_exception: half a surrogate pair in a message would make the whole batch unencodable.
        span.happened("exception", facts(error, hide))
    span.failed(f"{kind}: {message}" if message else kind)


def facts(error: BaseException, hide: Hide = str) -> dict[str, str]:
    """The attributes of an exception, by OpenTelemetry's conventions."""
    return {
        "exception.type": _type_of(error),
        "exception.message": clean(hide(raised.text(error)))[:LONGEST_MESSAGE],
        "exception.stacktrace": clean(hide("".join(traceback.format_exception(error))))[-LONGEST_TRACEBACK:],
    }


def _type_of(error: BaseException) -> str:
    module, name = type(error).__module__, type(error).__qualname__
    return name if module == "builtins" else f"{module}.{name}"


def clean(text: str) -> str:
    """The text without half surrogate pairs, which OTLP cannot hold; NATS bytes that are not UTF-8 are decoded to them."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
