"""Programs that some tests use where they are installed (`just tools`): neither `just test` nor a user needs them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

TOOLS = Path(os.environ.get("TEST_TOOLS", Path(__file__).parents[2] / "build" / "tools"))
CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))


def tool(name: str) -> str:
    """Its path; without it the test is skipped, and says what is missing."""
    found = TOOLS / "bin" / name
    if not found.exists():
        pytest.skip(f"NOT TRIED: {name} is not in {TOOLS}; `just tools` installs it")
    return str(found)


def browser() -> str:
    """The path of Chromium; without it the test is skipped."""
    if not CHROMIUM.exists():
        pytest.skip(f"NOT TRIED: there is no {CHROMIUM}; `apt-get install chromium`, or name one in CHROMIUM")
    return str(CHROMIUM)
