"""Every section of the benchmarks runs, in its quick form: what is not run goes bad."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from shutil import which

import msgspec
import pytest

from benchmarks import golang
from benchmarks.report import Report
from benchmarks.sections import LATENCIES, NAMES

WITHOUT_WRK = "jetrunner, HTTP"
ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.server, pytest.mark.slow]


ALIKE = {
    "batches", "beside", "body", "default", "in_flight", "keys", "ordered", "latency", "outputs", "real", "real_outputs", "requests", "shards", "throughput", "tracing", "traced", "work",
}  # fmt: skip
"""Sections whose contenders and figures are those of others, with other values."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.thorough if name in ALIKE else ()) for name in NAMES]
)
def test_a_section_can_be_run_alone_and_quickly(name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", name, "--quick", "--output", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = msgspec.json.decode((tmp_path / f"{name}.json").read_bytes(), type=Report)
    assert report.section == name
    if name in LATENCIES:
        assert all(0 < one.p50 <= one.p99 <= one.max for one in report.latency)
        assert len(report.latency) == len(LATENCIES[name].NAMES)
    else:
        assert all(one.rate > 0 and one.cpu > 0 for one in report.results)
        assert any(one.ours for one in report.results) or [one.name for one in report.skipped] == [
            WITHOUT_WRK
        ]
        assert all(one.dropped in {None, 0} for one in report.results)


def test_the_script_of_collectors_that_fail_runs_briefly(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "benchmarks.collectors",
        "--seconds",
        "3",
        "--only",
        "refuses",
        "--output",
        str(tmp_path),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (one,) = msgspec.json.decode((tmp_path / "collectors.json").read_bytes(), type=Report).collectors
    assert one.exit == 0
    assert one.spans == 6_001
    assert 0 < one.p50 <= one.p99 <= one.max
    assert any("traces do not arrive" in line for line in one.told)


def test_a_missing_natsio_is_told(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "throughput", "--quick", "--output", str(tmp_path)]
    env = {"PATH": "/usr/bin:/bin", "BENCH_NATSIO_PYTHON": sys.executable}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=env)
    assert "SKIPPED  natsio, consume: BENCH_NATSIO_PYTHON=" in done.stdout
    assert "No module named 'natsio'" in done.stdout


def test_a_missing_go_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(golang.NotAtHandError, match="no `go` on PATH"):
        golang.asking.__wrapped__()


@pytest.mark.skipif(not which("go"), reason="Go is not installed")
def test_a_module_that_go_would_have_to_download_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GOMODCACHE", str(tmp_path))
    with pytest.raises(golang.NotAtHandError, match="`go build` says: .*GOPROXY=off"):
        golang.asking.__wrapped__()
