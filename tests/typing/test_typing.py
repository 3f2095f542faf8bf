"""The public API type-checks strictly, and mistakes do not."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

pytestmark = pytest.mark.slow


def mypy(file: str) -> str:
    # With the project's own options, so that what `just check` has found out of all other files is not found out again.
    arguments = ["--no-error-summary", "--no-pretty", str(HERE / file)]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    return done.stdout


def test_the_api_is_typed_as_its_users_write_it() -> None:
    assert mypy("api.py") == ""


def test_a_type_checker_finds_every_mistake_and_nothing_else() -> None:
    lines = (HERE / "wrong_api.py").read_text().splitlines()
    expected = {
        (number, match[1])
        for number, line in enumerate(lines, 1)
        if (match := re.search(r"# E: ([\w-]+)$", line))
    }
    found = re.findall(r"wrong_api\.py:(\d+): error: .*\[([\w-]+)\]$", mypy("wrong_api.py"), re.MULTILINE)
    assert {(int(number), code) for number, code in found} == expected
