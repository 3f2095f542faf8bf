"""The release before this one, out of the project's own history."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMIT = "a7d534a"
"""The last commit of the release before this one."""


def unpack(folder: Path) -> Path:
    """Put its package into a folder, which is returned: what stands in PYTHONPATH is imported before what is installed."""
    command = ["git", "-C", str(ROOT), "archive", COMMIT, "runner"]
    try:
        archive = subprocess.run(command, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip(f"THE PREVIOUS RELEASE IS NOT TRIED: commit {COMMIT} is not in this clone's history")
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(folder, filter="data")
    return folder
