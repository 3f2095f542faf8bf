"""Tables of the command line: they fit into a terminal, and nothing is cut where none is."""

from __future__ import annotations

import pytest

from runner.cli import times
from runner.cli.table import table

HEADS = [">SEQUENCE", "TIME", "FUNCTION", ">ATTEMPTS", "~ERROR"]
ROWS = [
    ["7", "2031-05-04T12:00:00Z", "charge", "5", "ValueError: " + "no bank " * 20],
    ["1024", "2031-05-04T12:00:00Z", "refund", "1", "Reject: nothing to charge"],
]


def test_without_a_width_nothing_is_cut() -> None:
    heads, first, second = table(HEADS, ROWS)
    assert heads.split() == ["SEQUENCE", "TIME", "FUNCTION", "ATTEMPTS", "ERROR"]
    assert first.endswith(ROWS[0][-1].rstrip())
    assert second == "    1024  2031-05-04T12:00:00Z  refund           1  Reject: nothing to charge"


def test_free_text_is_cut_to_the_width() -> None:
    lines = table(HEADS, ROWS, 80)
    assert [len(line) for line in lines] == [57, 80, 77]
    assert lines[1].endswith("  5  ValueError: no bank no bank…")
    assert lines[2].endswith("Reject: nothing to charge")


def test_what_has_no_room_beside_the_others_stands_below() -> None:
    assert table(HEADS, ROWS, 60) == [
        "SEQUENCE  TIME                  FUNCTION  ATTEMPTS",
        "       7  2031-05-04T12:00:00Z  charge           5",
        "    1024  2031-05-04T12:00:00Z  refund           1",
        "",
        "SEQUENCE  ERROR",
        "       7  ValueError: no bank no bank no bank no bank no ba…",
        "    1024  Reject: nothing to charge",
    ]


def test_the_first_columns_stand_in_every_part() -> None:
    heads = ["FUNCTION", "INSTANCE", ">PENDING", ">IN FLIGHT", ">RATE"]
    rows = [["charge", "a-1", "12", "3", "1.0/s"], ["", "b-2", "", "4", "2.0/s"]]
    assert table(heads, rows, 32, lead=2) == [
        "FUNCTION  INSTANCE  PENDING",
        "charge    a-1            12",
        "          b-2",
        "",
        "FUNCTION  INSTANCE  IN FLIGHT",
        "charge    a-1               3",
        "          b-2               4",
        "",
        "FUNCTION  INSTANCE   RATE",
        "charge    a-1       1.0/s",
        "          b-2       2.0/s",
    ]


@pytest.mark.parametrize("width", [*range(20, 140, 7)])
def test_no_line_is_longer_than_the_terminal(width: int) -> None:
    assert max(map(len, table(HEADS, ROWS, width))) <= max(width, len("    1024  2031-05-04T12:00:00Z"))


def test_a_column_that_is_wider_than_the_terminal_stands_alone_and_whole() -> None:
    name = "f" * 40
    assert table(["FUNCTION", "WHERE"], [[name, "functions/shop.py:12"]], 30) == [
        f"{'FUNCTION':40}  WHERE",
        f"{name}  functions/shop.py:12",
    ]


def test_no_rows_no_lines() -> None:
    assert table(HEADS, [], 80) == []


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ("2031-05-04T12:00:00.250Z", "2031-05-04T12:00:00Z"),
        ("2031-05-04T14:00:00.250999+02:00", "2031-05-04T12:00:00Z"),
        ("0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00+14:00"),
        ("soon", "soon"),
        ("", ""),
    ],
)
def test_a_time_is_shown_in_utc(told: str, shown: str) -> None:
    assert times.seconds(told) == shown


def test_a_stamp_has_milliseconds() -> None:
    assert times.stamp(1_935_662_400.25) == "2031-05-04T12:00:00.250Z"
