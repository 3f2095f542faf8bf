"""What a span says of an error: its type, its message, its traceback."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import TypeAlias

from runner.core import raised
from runner.telemetry.sdkspan import AnySpan

Hide: TypeAlias = Callable[[str], str]
LONGEST_MESSAGE = 1_024
LONGEST_TRACEBACK = 16_384
"""Characters; a longer traceback loses its beginning, for the last lines say most."""


def record(span: AnySpan, error: BaseException | str, kind: str = "", hide: Hide = str) -> None:
    """Mark the span failed; where the error is no exception but a text, `kind` is its type, or the text itself.

    `hide` takes out of texts what is not shown.
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
        # Not the SDK's record_exception: half a surrogate pair in a message would make the whole batch unencodable.
        span.happened("exception", facts(error, hide))
    span.failed(f"{kind}: {message}" if message else kind)


def facts(error: BaseException, hide: Hide = str) -> dict[str, str]:
    """What the conventions tell of an exception."""
    return {
        "exception.type": _type_of(error),
        "exception.message": clean(hide(raised.text(error)))[:LONGEST_MESSAGE],
        "exception.stacktrace": clean(hide("".join(traceback.format_exception(error))))[-LONGEST_TRACEBACK:],
    }


def _type_of(error: BaseException) -> str:
    module, name = type(error).__module__, type(error).__qualname__
    return name if module == "builtins" else f"{module}.{name}"


def clean(text: str) -> str:
    """The text without half surrogate pairs, which OTLP cannot hold; bytes of NATS that are no UTF-8 come as such."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
