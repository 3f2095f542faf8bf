"""`just demo` runs, and finds nothing missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.server
@pytest.mark.timeout(300)
def test_the_demo_handles_every_flight_and_ends_by_itself() -> None:
    command = [sys.executable, "-m", "functions._demo"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5,007 records: 15,307 messages handled by 4 functions" in done.stdout
    assert "dead letters    11" in done.stdout
    assert "1,000 flights compared by 2,000 requests to three instances; one was killed" in done.stdout
    assert "over HTTP, through an Ingress: 2,000 times 200; an instance was killed after" in done.stdout
    assert "forward #1" in done.stdout  # the trace reaches the HTTP endpoint
