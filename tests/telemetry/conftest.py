"""Traces that go through the real exporter to a receiver on the loopback."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from runner.telemetry import settings
from runner.telemetry.receiver import Receiver
from runner.telemetry.tracing import Tracing

PATIENT = {"OTEL_EXPORTER_OTLP_TIMEOUT": "60000"}
"""An export waits for a collector that stands still; without this it would give its spans up after three seconds."""


@pytest.fixture(autouse=True)
def _no_variables_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK reads some of them itself."""
    for name in (
        "OTEL_SDK_DISABLED",
        "OTEL_RESOURCE_ATTRIBUTES",
        "OTEL_SERVICE_NAME",
        "OTEL_EXPORTER_OTLP_HEADERS",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Where the spans of `tracing` arrive."""
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def make_tracing(receiver: Receiver) -> Iterator[Callable[..., Tracing]]:
    """Tracing of the project `shop`, set up by variables: `make_tracing(OTEL_TRACES_SAMPLER="always_on")`."""
    with ExitStack() as stack:

        def make(**variables: str) -> Tracing:
            environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint, **PATIENT, **variables}
            tracing = Tracing(settings.load(environ), "shop")
            stack.callback(tracing.shutdown, 1.0)
            return tracing

        yield make


@pytest.fixture
def tracing(make_tracing: Callable[..., Tracing]) -> Tracing:
    """Tracing with the default settings."""
    return make_tracing()
