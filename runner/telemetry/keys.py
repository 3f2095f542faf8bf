"""The keys under which the runner puts values into OpenTelemetry's contexts."""

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
# The key of the current span.
(SPAN,) = set_span_in_context(INVALID_SPAN, Context())
# The service that spans of user code inside an attempt belong to.
SERVICE = contexts.create_key("jetrunner-service")
# The function that removes the message's hidden values from the texts of user code's spans.
HIDE = contexts.create_key("jetrunner-hide")
# The function and the delivery that the code runs for.
MESSAGE = contexts.create_key("jetrunner-message")
# Set in the context of a span that the gate has admitted; the SDK's sampler must not decide again.
ADMITTED = contexts.create_key("jetrunner-admitted")
_token = contexts.attach(Context())
CURRENT: Final[ContextVar[Context]] = _token.var
"""Holds the current context."""
CURRENT.reset(_token)
