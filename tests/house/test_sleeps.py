"""A sleep until a moment that has passed already is not an error: `anyio.sleep` raises where its argument is negative."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]


def differences(file: Path) -> list[int]:
    """The lines in which a file sleeps for a difference that no `max(0.0, …)` holds back from below 0."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) == "anyio.sleep"
        and not ast.unparse(node).startswith("anyio.sleep(max(0.0,")
        and any(isinstance(each, ast.Sub) for each in ast.walk(node))
    ]


def test_who_sleeps_for_a_difference_sleeps_for_no_less_than_0_seconds() -> None:
    files = [file for room in ("runner", "functions", "benchmarks") for file in (ROOT / room).rglob("*.py")]
    found = {str(file.relative_to(ROOT)): lines for file in files if (lines := differences(file))}
    assert found == {}
