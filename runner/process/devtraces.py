"""The traces of `runner dev`: kept in memory for `runner trace`, and sent on to a collector where one listens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from runner import devserver
from runner.telemetry import settings
from runner.telemetry.forwarder import Forwarder
from runner.telemetry.receiver import Receiver

VARIABLE = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"


@contextmanager
def kept(root: Path, environ: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Keep traces for the time of the block; yields the environment variables by which workers send their spans here.

    Nothing is kept if spans are not sent over OTLP, or go to a collector by https: then workers check its certificate themselves.
    """
    found = settings.load(environ)
    if found.exporter != "otlp" or not found.endpoint.startswith("http://"):
        yield {}
        return
    with (
        Forwarder(found.endpoint) as forward,
        Receiver(forward=forward) as receiver,
        devserver.announced(root, receiver.endpoint, devserver.TRACES),
    ):
        yield {VARIABLE: f"{receiver.endpoint}/v1/traces"}
