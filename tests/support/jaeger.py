"""A real Jaeger, whose binary JAEGER_BIN names: it keeps a thousand traces in memory."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CONFIGURATION = """\
service:
  extensions: [jaeger_storage, jaeger_query]
  pipelines:
    traces: {{receivers: [otlp], exporters: [jaeger_storage_exporter]}}
  telemetry:
    metrics: {{level: none}}
    logs: {{level: warn}}
extensions:
  jaeger_query:
    storage: {{traces: memory}}
    http: {{endpoint: "127.0.0.1:{page}"}}
    grpc: {{endpoint: "127.0.0.1:0"}}
    {ui}
  jaeger_storage:
    backends:
      memory: {{memory: {{max_traces: 1000}}}}
receivers:
  otlp:
    protocols:
      http: {{endpoint: "127.0.0.1:{otlp}"}}
exporters:
  jaeger_storage_exporter: {{trace_storage: memory}}
"""


@contextmanager
def running(folder: Path, *, otlp: int, page: int, assets: str = "") -> Iterator[None]:
    """Run it for the time of the block: it takes traces on one port and shows them on the other, by the page in `assets`."""
    ui = f'ui: {{assets_path: "{assets}"}}' if assets else ""
    configuration = folder / "jaeger.yaml"
    configuration.write_text(CONFIGURATION.format(otlp=otlp, page=page, ui=ui))
    with (folder / "jaeger.log").open("wb") as log:
        process = subprocess.Popen(
            [os.environ["JAEGER_BIN"], "--config", str(configuration)], stdout=log, stderr=log
        )
        try:
            yield
        finally:
            process.kill()  # it holds nothing; asked kindly, it waits for connections that are kept alive
            process.wait(10)
