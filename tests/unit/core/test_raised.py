"""An exception is user code, too: whatever it says of itself, one short line of plain text is told."""

from __future__ import annotations

import asyncio

import pytest

from runner.cli.invocation import described
from runner.core import raised
from runner.core.retry import RetryPolicy
from runner.core.settlement import Failed, Nak, settle
from runner.pipeline.reporter import told


class Hostile(str):
    """A text whose own methods are the user's."""

    __slots__ = ()

    def __getitem__(self, _: object) -> str:
        raise ValueError

    def __len__(self) -> int:
        return 1

    def split(self, *_: object) -> list[str]:
        raise ValueError

    def isprintable(self) -> bool:
        return True


class Says(Exception):  # noqa: N818  it is none
    """Says what it is given; raises it, where that is an exception."""

    def __init__(self, what: object) -> None:
        super().__init__()
        self.what = what

    def __str__(self) -> str:
        if isinstance(self.what, BaseException):
            raise self.what
        return self.what  # type: ignore[return-value]


SAYINGS = [
    (RuntimeError("no words"), raised.MUTE),
    (RecursionError(), raised.MUTE),
    (SystemExit(1), raised.MUTE),
    (asyncio.CancelledError(), raised.MUTE),
    (None, raised.MUTE),
    (7, raised.MUTE),
    (b"x", raised.MUTE),
    (Hostile("a\nb\x1b"), r"a b\x1b"),
    ("one\r\ntwo\n\tthree", "one two three"),
    ("\x1b]52;c;x\x07 \x9b31m \u202e \x00", r"\x1b]52;c;x\x07 \x9b31m \u202e \x00"),
    ("half \ud800 of a pair, \udcff", r"half \ud800 of a pair, \xff"),
    ("größe 🦊", "größe 🦊"),
    ("", ""),
]


@pytest.mark.parametrize(("what", "message"), SAYINGS)
def test_every_place_that_tells_an_error_tells_the_same(what: object, message: str) -> None:
    error = Says(what)
    line = f"Says: {message}" if message else "Says"
    assert raised.message(error) == message
    assert told(Failed(error)) == line
    assert described(Nak(1.0), Failed(error)) == ("retry", f"again in 1 s: {line}")
    dead = settle(Failed(error), 1, RetryPolicy(attempts=1), 0.0)
    assert (dead.error, dead.message) == ("Says", message)  # type: ignore[union-attr]
    assert described(dead, Failed(error)) == ("dead", f"exhausted: {line}")


@pytest.mark.parametrize("what", ["x" * 10_000_000, Hostile("x" * 10_000_000), "\x00" * 10_000_000])
def test_however_long_it_is_little_is_told(what: str) -> None:
    error = Says(what)
    assert len(raised.text(error)) == raised.LONGEST
    assert type(raised.text(error)) is str
    assert len(raised.message(error)) <= raised.LONGEST
    assert len(told(Failed(error))) == raised.LONGEST_LINE
    assert told(Failed(error)).endswith("…")


def test_a_type_may_have_any_name() -> None:
    class Meta(type):
        @property
        def __name__(cls) -> str:  # type: ignore[override]
            raise ValueError

    odd = Meta("x\x1b\n" + "y" * 1_000, (Exception,), {})
    assert raised.name(odd()).startswith(r"x\x1b y")
    assert len(raised.name(odd())) == raised.LONGEST_NAME
