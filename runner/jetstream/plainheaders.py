"""Headers as nats-py takes and gives them: a dict of text."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from runner.core import header as headers

log = logging.getLogger("jetrunner.wire")

TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
"""Header names that nats-py writes; it refuses the whole message for any other."""


class Exact(str):
    """A header's value that nats-py writes byte for byte."""

    __slots__ = ()

    def strip(self, _: str | None = None, /) -> Exact:
        """Nothing: it is as it shall be."""
        return self

    def translate(self, _: Any, /) -> Exact:
        """Nothing, as well."""
        return self

    def encode(self, encoding: str = "utf-8", errors: str = "surrogateescape") -> bytes:
        """With bytes that are no UTF-8 as they were read."""
        return super().encode(encoding, errors)


class Headers(dict[str, str]):
    """Headers for nats-py, which takes a dict and writes its items: here with repeated names."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._pairs = []
        for name, value in pairs:
            if TOKEN.fullmatch(name):
                self._pairs.append((name, Exact(value)))
            else:
                log.warning("header %r is left out: nats-py does not write such a name", name)
        super().__init__(self._pairs)

    def items(self) -> Any:
        """Every pair, in order."""
        return self._pairs


def status_block(parsed: dict[str, str] | None) -> bytes | None:
    """The raw header block of headers that nats-py has parsed, its `Status` pair put back on the first line.

    What cannot stand in one, where nats-py has split lines otherwise than we do, is left out.
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
