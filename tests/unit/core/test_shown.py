"""Text of others is shown escaped: nothing in it acts on a terminal, or starts a line of its own."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.core import shown


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("plain, ünïcode, 漢字, 🛫, a\u00a0b", "plain, ünïcode, 漢字, 🛫, a\u00a0b"),
        ("\x1b]52;c;ZXZpbA==\x07", r"\x1b]52;c;ZXZpbA==\x07"),
        ("a\r\nb\tc", r"a\r\nb\tc"),
        ("\x00\x08\x7f\x85\x9b31m", r"\x00\x08\x7f\x85\x9b31m"),
        ("\u202eevil\u202c \u2066x\u2069 \u200f", r"\u202eevil\u202c \u2066x\u2069 \u200f"),
        ("a\u2028b\u2029c", r"a\u2028b\u2029c"),
        ("\ud800 \udcff", r"\ud800 \xff"),
        ("\U000e0041", r"\U000e0041"),
        ("👩\u200d🚀", "👩\u200d🚀"),
    ],
)
def test_a_line(text: str, line: str) -> None:
    assert shown.line(text) == line


def test_a_block_keeps_its_lines_and_tabs_and_every_line_is_indented() -> None:
    assert shown.block("a\r\n\tb\x1b[2J\n\rc") == "a\n\tb\\x1b[2J\n\\rc"
    assert shown.block("a\nb\n", "  ") == "  a\n  b\n  "
    assert shown.block("") == ""


def test_bytes_that_are_no_text() -> None:
    assert shown.raw(b"a\xffb \xc3\xa9 \x1b") == r"a\xffb é \x1b"


@given(st.text() | st.text(st.characters(categories=["Cc", "Cf", "Cs", "Zl", "Zp"])))
def test_nothing_acting_is_left_and_what_is_left_can_be_written(text: str) -> None:
    for made, kept in ((shown.line(text), ""), (shown.block(text), "\n\t")):
        made.encode()
        left = {each for each in made if unicodedata.category(each) in {"Cc", "Zl", "Zp", "Cs"}}
        assert left <= set(kept)
        assert not any(
            unicodedata.bidirectional(each) in {"LRE", "RLE", "LRO", "RLO", "PDF"} for each in made
        )
        assert not any(unicodedata.bidirectional(each) in {"LRI", "RLI", "FSI", "PDI"} for each in made)
