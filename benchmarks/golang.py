"""The contender written in Go, `go/asking.go`: built where Go is installed, and nats.go is in its cache of modules."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

from benchmarks.contender import ROOT

SOURCES = Path(__file__).parent / "go"
BUILT = ROOT / "build" / "golang"
OFFLINE = {"GOFLAGS": "-mod=mod -buildvcs=false", "GOPROXY": "off", "GOSUMDB": "off"}
"""A benchmark downloads nothing; README.md tells how the module comes into the cache."""
SECONDS = 300


class NotAtHandError(Exception):
    """It cannot be built here; the text says why."""


@cache
def asking() -> Path:
    """The program. Raises NotAtHandError."""
    compiler = shutil.which("go")
    if compiler is None:
        raise NotAtHandError("no `go` on PATH")
    BUILT.mkdir(parents=True, exist_ok=True)
    for source in SOURCES.iterdir():
        shutil.copy(source, BUILT)
    done = subprocess.run(
        [compiler, "build", "-o", "asking", "."],
        cwd=BUILT,
        env=os.environ | OFFLINE,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    if done.returncode:
        raise NotAtHandError(f"`go build` says: {done.stderr.strip().splitlines()[-1]}")
    return BUILT / "asking"
