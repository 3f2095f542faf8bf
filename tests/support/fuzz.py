"""Inputs that are nearly right: good ones, with something done to them."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

HOSTILE: list[bytes] = [
    b"\r\nPUB evil 0\r\n\r\n",
    b"\r\nPUB $JS.API.STREAM.PURGE.ORDERS 0\r\n\r\n",
    b"\r\n",
    b"\n",
    b"\r",
    b" ",
    b"\t",
    b"\x00",
    b"\x1b]52;c;x\x07",
    b"\x7f",
    b"\xff",
    b"\xc2\x85",
    b"\xe2\x80\xa8",
    b"\xe2\x80\xae",
    b"\xed\xa0\x80",
    b"\\ud800",
    b"\\r\\n",
    b"\\u0000",
    b"*",
    b">",
    b".",
    b"..",
    b"~",
    b"-",
    b"-1",
    b"1e400",
    b"NaN",
    b"9" * 30,
    b"9" * 5_000,
    b"\xd9\xa3",
    b"[" * 2_000,
    b'{"a":' * 1_500,
    b"x" * 4_200,
    b"$JS.API.STREAM.DELETE.ORDERS",
    b"_INBOX.a.1",
    b"NATS/1.0 503\r\n\r\n",
    b"Nats-Sequence: -1",
    b'"',
    b"}",
    b"\x91\x91\x91",
    b"\xdf\xff\xff\xff\xff",
]
VALUES: list[Any] = [
    None, True, -1, 0, 1, 1.5, 10**18, 10**19, 10**40, -(10**40), 1e300, "", " ", "a b", "a\r\nPUB evil 0\r\n\r\n", "*", ">",
    "a.b", "x" * 300, "x" * 5_000, "\x00", "\x1b[2J", "\u202e", "é", [], {}, [[]], [1] * 300, {"a": {"a": {"a": 1}}},
]  # fmt: skip


def bent(luck: random.Random, good: bytes) -> bytes:
    """Bytes with one to four things done to them."""
    data = good
    for _ in range(luck.choice((1, 1, 1, 2, 4))):
        place = luck.randrange(len(data) + 1)
        match luck.randrange(7):
            case 0:
                data = data[:place] + luck.choice(HOSTILE) + data[place:]
            case 1:
                data = data[:place]
            case 2:
                data = data[place:]
            case 3 if data:
                place = min(place, len(data) - 1)
                data = data[:place] + bytes([data[place] ^ (1 << luck.randrange(8))]) + data[place + 1 :]
            case 4:
                data = data[:place] + luck.randbytes(luck.randrange(9)) + data[place:]
            case 5:
                end = luck.randrange(place, len(data) + 1)
                data = data[:place] + luck.choice(HOSTILE) + data[end:]
            case _:
                end = luck.randrange(place, len(data) + 1)
                data = data[:end] + data[place:end] + data[end:]
    return data


def twisted(luck: random.Random, good: Any) -> Any:
    """A value with one field somewhere replaced, left out, or added."""
    if not isinstance(good, (dict, list)) or not good or luck.random() < 0.15:
        return luck.choice(VALUES)
    if isinstance(good, list):
        place = luck.randrange(len(good))
        return [*good[:place], twisted(luck, good[place]), *good[place + 1 :]]
    name = luck.choice(sorted(good, key=str))
    changed = {**good, name: twisted(luck, good[name])}
    if luck.random() < 0.2:
        del changed[name]
    if luck.random() < 0.2:
        changed[luck.choice(("a b", "", "x\r\ny", "new", name))] = luck.choice(VALUES)
    return changed


def json_near(luck: random.Random, good: Sequence[Any]) -> bytes:
    """JSON that is nearly one of these."""
    value = luck.choice(good)
    if luck.random() < 0.6:
        return json.dumps(twisted(luck, value), ensure_ascii=luck.random() < 0.5).encode(
            "utf-8", "surrogatepass"
        )
    return bent(luck, json.dumps(value).encode())
