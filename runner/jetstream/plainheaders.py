"""Headers as nats-py takes and gives them: as a dict of texts."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from runner.core import header as headers

log = logging.getLogger("jetrunner.wire")

TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
"""Header names that nats-py writes; for any other name it refuses the whole message."""


class ExactValue(str):
    """A header's value that nats-py writes byte for byte."""

    __slots__ = ()

    def strip(self, _: str | None = None, /) -> ExactValue:
        """Give the value unchanged."""
        return self

    def translate(self, _: Any, /) -> ExactValue:
        """Give the value unchanged."""
        return self

    def encode(self, encoding: str = "utf-8", errors: str = "surrogateescape") -> bytes:
        """Encode the value; bytes that are not UTF-8 come out as they were read."""
        return super().encode(encoding, errors)


class PlainHeaders(dict[str, str]):
    """Headers for nats-py, which takes a dict and writes its items: these items may repeat names."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._pairs = []
        for name, value in pairs:
            if TOKEN.fullmatch(name):
                self._pairs.append((name, ExactValue(value)))
            else:
                log.warning("header %r is dropped: nats-py cannot write this name", name)
        super().__init__(self._pairs)

    def items(self) -> Any:
        """Every pair, in order."""
        return self._pairs


def status_block(parsed: dict[str, str] | None) -> bytes | None:
    """The raw header block of headers that nats-py has parsed, with its `Status` pair back on the first line.

    Pairs that cannot stand in a block, because nats-py splits lines differently, are left out.
    """
    if not parsed:
        return None
    block = b"NATS/1.0"
    if "Status" in parsed:
        words = f" {parsed['Status']} {parsed.get('Description', '')}"
        block += " ".join(words.splitlines()).rstrip().encode("utf-8", "replace")
    block += b"\r\n"
    for pair in parsed.items():
        if pair[0] not in ("Status", "Description"):
            with suppress(ValueError):
                block += headers.encode([pair]).removeprefix(b"NATS/1.0\r\n").removesuffix(b"\r\n")
    return block + b"\r\n"
