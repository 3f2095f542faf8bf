"""What the server answers is named in one place."""

from __future__ import annotations

import tokenize
from pathlib import Path

ROOT = Path(__file__).parents[2]
CODES = Path("runner/jetstream/codes.py")


def numbers(file: Path) -> set[int]:
    """The whole numbers of five digits in a file's code."""
    with tokenize.open(file) as lines:
        tokens = tokenize.generate_tokens(lines.readline)
        texts = [each.string for each in tokens if each.type == tokenize.NUMBER]
    return {int(text) for text in texts if text.isdigit() and len(text) == 5}


def test_an_error_code_of_jetstream_is_written_in_codes_alone() -> None:
    found = {
        str(file.relative_to(ROOT)): codes
        for file in sorted((ROOT / "runner").rglob("*.py"))
        if (codes := {number for number in numbers(file) if 10_000 <= number < 11_000})
    }
    assert found.keys() == {str(CODES)}
