"""Takes the picture of a trace in README.md from the page of a real Jaeger, and prints the same trace as text.

    JAEGER_BIN=… JAEGER_UI=… uv run python -m docs._screenshot

Runs the functions of this repository under `runner dev`, sends four late flights, of which the endpoint refuses one alert at first, and opens
the trace of that one. `JAEGER_BIN` is a Jaeger of version 2. One that was built from its Go module has no page of its own: `JAEGER_UI` names the
folder `packages/jaeger-ui/build` of a built jaeger-ui then. `CHROMIUM` is the browser, `chromium` by default.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from functions import _demo
from functions._dev import Dev
from functions._endpoint import endpoint
from functions.alert import LATE
from runner.telemetry import jaeger, waterfall
from tests.support.jaeger import running

PICTURE = Path(__file__).parent / "images" / "trace.png"
SIZE = 1400, 470
OTLP, PAGE = 24318, 26686
FLIGHTS = 4  # the endpoint refuses the fourth request


def refused(page: str) -> bytes:
    """The trace of the flight whose alert was refused at first, once all of it is here."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{page}/api/traces?service=forward&limit=20", timeout=5) as answer:
                traces: list[dict[str, Any]] = json.load(answer)["data"] or []
        except OSError:
            traces = []
        for trace in traces:
            spans = jaeger.decode(json.dumps({"data": [trace]}).encode())
            names = [span.name for span in spans]
            if names.count("forward") == 2 and {"audit", "track", "alert"} <= set(names):
                return json.dumps({"data": [trace]}).encode()
        time.sleep(0.2)
    sys.exit("no trace has a second attempt of forward")


def photograph(url: str, picture: Path, size: tuple[int, int]) -> None:
    """What the browser shows of it."""
    browser = os.environ.get("CHROMIUM", "chromium")
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=15000",
        f"--window-size={size[0]},{size[1]}", f"--screenshot={picture}", url,
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)


def main() -> None:
    """Make the trace, the picture and the text."""
    with ExitStack() as stack:
        folder, assets = Path(stack.enter_context(TemporaryDirectory())), os.environ.get("JAEGER_UI", "")
        stack.enter_context(running(folder, otlp=OTLP, page=PAGE, assets=assets))
        page = f"http://127.0.0.1:{PAGE}"
        server, root = stack.enter_context(endpoint()), stack.enter_context(_demo.project())
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(_demo.FOREIGN)
        }
        environment |= {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{OTLP}", "ALERTS_URL": server.url}
        dev = stack.enter_context(Dev(root, environment))
        dev.ready(within=60)
        lines = (_demo.ROOT / _demo.DATA / "flights.jsonl").read_text().splitlines()
        late = [line for line in lines if json.loads(line)["delay"] >= LATE][:FLIGHTS]
        for line in late:
            _demo.command(root, environment, "publish", f"flights.{json.loads(line)['origin']}", line)
        spans = jaeger.decode(refused(page))
        photograph(f"{page}/trace/{spans[0].trace_id}", PICTURE, SIZE)
        print("\n".join(waterfall.lines(spans)))
        print(f"{PICTURE}: {PICTURE.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
