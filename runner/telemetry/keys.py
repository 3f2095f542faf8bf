"""What the runner puts into OpenTelemetry's contexts."""

from __future__ import annotations

from contextvars import ContextVar
from importlib.metadata import distribution
from typing import Final

from opentelemetry import context as contexts
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, set_span_in_context

# The instrumentation scope of our own spans.
SCOPE = "jetrunner"
VERSION = distribution("jetrunner").version
SCHEMA = "https://opentelemetry.io/schemas/1.44.0"
# The span that is current.
(SPAN,) = set_span_in_context(INVALID_SPAN, Context())
# Which service the spans of user code inside an attempt belong to.
SERVICE = contexts.create_key("jetrunner-service")
# What takes out of the texts of user code's spans what is not shown of the message.
HIDE = contexts.create_key("jetrunner-hide")
# The function and the delivery that code runs for.
MESSAGE = contexts.create_key("jetrunner-message")
# Set in the context of a span the gate has let through; the SDK's sampler must not decide again.
ADMITTED = contexts.create_key("jetrunner-admitted")
_token = contexts.attach(Context())
CURRENT: Final[ContextVar[Context]] = _token.var
"""Holds the current context."""
CURRENT.reset(_token)
