"""What comes off the wire is decoded into checked types: it fits, or it is `Unfit`, and nothing else is raised."""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.cluster.member import Member, read_member
from runner.core import checked, generation, park
from runner.core.checked import (
    Count,
    FunctionName,
    InstanceName,
    Line,
    OwnerName,
    Stream,
    Subject,
    Unfit,
    UnixTime,
)
from runner.core.claim import Claim
from runner.core.identity import instance
from runner.ordered.recorded import SettlementRecord
from runner.runtime.floors import Floor

READERS = {
    "member": read_member,
    "claim": checked.json(Claim),
    "opening": generation.read,
    "mark": park.read,
    "floor": checked.json(Floor),
    "record": checked.msgpack(SettlementRecord),
}


class Named(msgspec.Struct, frozen=True):
    instance: InstanceName = "a"
    owner: OwnerName = ""
    function: FunctionName = "f"
    stream: Stream = "S"
    subject: Subject = "a.b"
    line: Line = ""
    count: Count = 0
    time: UnixTime = 0


read_named = checked.json(Named)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("instance", "host-7-0af3"),
        ("instance", "x" * 128),
        ("owner", ""),
        ("function", "_charge2"),
        ("stream", "ORDERS-é"),
        ("subject", "orders.c1.created"),
        ("subject", "flüge.münchen"),
        ("subject", "a*b.c>d"),
        ("line", "2026-01-01T00:00:00.1Z"),
        ("count", (1 << 63) - 1),
        ("time", 1_800_000_000.25),
    ],
)
def test_what_fits_is_read(field: str, value: Any) -> None:
    assert getattr(read_named(msgspec.json.encode({field: value})), field) == value


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("instance", ""),
        ("instance", "x" * 129),
        *(("instance", f"a{bad}b") for bad in " .\r\n\t*>$/\x00\x1b\x7fé"),
        ("instance", "a\r\nPUB $JS.API.STREAM.PURGE.S 0\r\n"),
        ("instance", "a\n"),
        ("owner", "a b"),
        ("function", "9a"),
        ("function", "a-b"),
        ("function", "é"),
        ("stream", "a.b"),
        ("stream", ">"),
        ("stream", "../x"),
        *(("subject", bad) for bad in ("", ".", "a.", ".a", "a..b", "*", ">", "a.*", "a.>", "*.a", "a.*.b")),
        *(("subject", f"a{bad}b") for bad in " \t\r\n\x0b\x0c\x00\x1b\x7f\x85\xa0\u2028"),
        ("subject", "x" * 4_097),
        ("line", "a\nb"),
        ("line", "a\x1b[31m"),
        ("count", -1),
        ("count", 1 << 63),
        ("count", 10**30),
        ("count", 1.5),
        ("count", True),
        ("count", "1"),
        ("time", -0.1),
        ("time", 1e300),
    ],
)
def test_what_does_not_fit_is_unfit(field: str, value: Any) -> None:
    with pytest.raises(Unfit):
        read_named(msgspec.json.encode({field: value}))


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\x00",
        b"\xff\xfe",
        b"null",
        b"[]",
        b"{}x",
        b'{"joined":1,"instance":1,"owner":1,"stream":1,"state":1,"sequence":1}',
        b'{"left":"\xff","instance":"\xff","owner":"\xff","stream":"\xff","state":"\xff","created":"\xff"}',
        b'{"left":"\\ud800"}',
        b'{"x":' + b"[" * 200_000,
        b"[" * 200_000,
        b"\x91" * 200_000,
        b"\x92\x01\x81\xa1\xff\x90",
        b"\x92\x01\x81\xa1a\x91\xff",
        b"\x92\x01\xdf\xff\xff\xff\xff",
    ],
    ids=lambda value: value[:12].hex(),
)
def test_bytes_that_are_something_else_are_unfit_for_every_type(name: str, value: bytes) -> None:
    with pytest.raises(Unfit):
        READERS[name](value)


@given(st.binary(max_size=64))
def test_no_bytes_raise_anything_else(value: bytes) -> None:
    for read in READERS.values():
        with contextlib.suppress(Unfit):
            read(value)


def test_numbers_of_ten_thousand_digits_are_unfit() -> None:
    with pytest.raises(Unfit):
        READERS["claim"](b'{"owner":"a","since":0,"epoch":' + b"9" * 10_000 + b"}")


def test_an_error_quotes_nothing_of_what_came() -> None:
    with pytest.raises(Unfit) as error:
        read_named(b'{"instance":"s3cret s3cret"}')
    assert "s3cret" not in str(error.value)


def test_the_kinds_of_numbers() -> None:
    assert [checked.number(text) for text in (b"0", b"17", "9223372036854775807")] == [0, 17, (1 << 63) - 1]
    for text in (b"", b"-1", b"+1", b" 1", b"1.0", b"x", "²", "٣", b"9" * 19, b"9" * 5_000):
        assert checked.number(text) is None
    assert checked.number(b"5", most=4) is None


@given(st.text(max_size=80))
def test_an_instance_has_a_name_that_fits_whatever_its_host_is_called(host: str) -> None:
    name = instance(host, 4_194_304, "0af31b2c")
    assert read_member(msgspec.json.encode(Member(name, ()))).instance == name


def test_a_usual_host_keeps_its_name() -> None:
    assert instance("web-1.eu.example", 7, "0af3") == "web-1-eu-example-7-0af3"
    assert instance("", 7, "0af3") == "host-7-0af3"
