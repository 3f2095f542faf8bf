"""What a client has written, read as strictly as a server may: every byte belongs to a frame, or it is an error."""

from __future__ import annotations

import re
from typing import NamedTuple

TOKEN = rb"[^\x00-\x20\x7f]+"
PUB = re.compile(rb"PUB (%b) (?:(%b) )?([0-9]+)" % (TOKEN, TOKEN))
PUB_EMPTY = re.compile(rb"PUB (%b)  ([0-9]+)" % TOKEN)
HPUB = re.compile(rb"HPUB (%b) (?:(%b)? )?([0-9]+) ([0-9]+)" % (TOKEN, TOKEN))
MAX_CONTROL_LINE = 4_096


class Frame(NamedTuple):
    """One message that was published."""

    subject: bytes
    reply: bytes
    header: bytes
    body: bytes


class NotAFrame(AssertionError):  # noqa: N818  named by what it is
    """Bytes that a server would take for something else."""


def parse(data: bytes) -> list[Frame]:
    """Every frame of `data`; raises `NotAFrame` for what is none, or not whole."""
    found = []
    position = 0
    while position < len(data):
        end = data.find(b"\r\n", position)
        if end < 0:
            raise NotAFrame(f"no end of line: {data[position : position + 80]!r}")
        line = data[position:end]
        if b"\n" in line or b"\r" in line or len(line) > MAX_CONTROL_LINE:
            raise NotAFrame(f"a line of its own inside: {line[:80]!r}")
        frame, position = _frame(line, data, end + 2)
        found.append(frame)
    return found


def _frame(line: bytes, data: bytes, body: int) -> tuple[Frame, int]:
    if match := PUB_EMPTY.fullmatch(line) or PUB.fullmatch(line):
        groups = match.groups()
        subject, reply, head, size = (
            groups[0],
            (groups[1] if len(groups) == 3 else b"") or b"",
            0,
            int(groups[-1]),
        )
    elif match := HPUB.fullmatch(line):
        subject, reply, head, size = match[1], match[2] or b"", int(match[3]), int(match[4])
    else:
        raise NotAFrame(f"not what we write: {line[:80]!r}")
    if data[body + size : body + size + 2] != b"\r\n" or head > size:
        raise NotAFrame(f"its size is wrong: {line[:80]!r}")
    block = data[body : body + head]
    if head and not (
        block.startswith(b"NATS/1.0\r\n") and block.endswith(b"\r\n\r\n") and block.count(b"\r\n\r\n") == 1
    ):
        raise NotAFrame(f"its headers end early: {block[:200]!r}")
    return Frame(subject, reply, block, data[body + head : body + size]), body + size + 2
