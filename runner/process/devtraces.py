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
    """For the time of the block; what workers are to have in their environment, so that their spans come here.

    Nothing is kept where spans go nowhere over OTLP, or to a collector by https: who checks certificates is to do so itself.
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
