"""Redaction: secret values of a message's headers and body are hidden wherever its text goes to a terminal, a log or a trace.

Rule 1: a rule is the name of a header, and at the same time a path into the body: names joined by dots. An array stands for each of
        its elements. Upper and lower case are one.
Rule 2: a value that a rule names is shown as `[redacted]`, whole. The message itself stays as it is.
Rule 3: where such a value occurs in other text (of an exception, say), it is replaced there, too, if it has at least
        `SHORTEST` characters: as it is, as `repr` or JSON writes it, and where the text was cut in the middle of it.
Rule 4: a body that cannot be read is hidden whole, if it may hold a value that a rule names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from runner.core import shown

REDACTED = "[redacted]"
SHORTEST = 4
MOST = 1_000
"""Most values of one message that are looked for in other text."""
MSGPACK = "application/msgpack"
CUT = "…"
LONGEST_REST = 4_096
"""Most characters of a value that are looked for before or after a cut."""

_ESCAPED = re.compile(rb"\\u[0-9a-fA-F]{4}")
_APART = re.compile(r"[\s;,]+")
_SCHEME = re.compile(r"[A-Za-z-]+")


class _Unreadable(Exception):  # noqa: N818  caught where it is raised
    """The body is no document."""


class Literal(float):
    """A number with a fraction, and the text by which it was written."""

    written: str


class Rules(Struct, frozen=True):
    """The names whose values are hidden, in lower case."""

    names: tuple[str, ...]

    @classmethod
    def of(cls, names: Iterable[str]) -> Rules:
        """Make the rules from a setting."""
        return cls(tuple(dict.fromkeys(name.lower() for name in names)))

    def hides(self, header: str) -> bool:
        """Whether a header's value is not shown."""
        return header.lower() in self.names

    def headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Return the headers with secrets hidden."""
        return {name: REDACTED if self.hides(name) else value for name, value in headers.items()}

    def body(self, body: bytes, kind: str = "") -> bytes:
        """Return the body with secrets hidden; `kind` is its content type."""
        return self._read(body, kind)[0]

    def values(self, headers: Iterable[tuple[str, str]], body: bytes, kind: str = "") -> Values:
        """Collect the texts that must not occur in other text about a message."""
        found: dict[str, None] = {}
        for name, value in headers:
            if self.hides(name):
                found.update(dict.fromkeys(_parts(value)))
        found.update(dict.fromkeys(self._read(body, kind)[1]))
        if len(found) > MOST:
            return Values(everything=True)
        written = {form for value in found for form in _forms(value) if len(form) >= SHORTEST}
        return Values(tuple(sorted(written, key=len, reverse=True)))

    def _read(self, body: bytes, kind: str) -> tuple[bytes, list[str]]:
        """Return the body with secrets hidden, and the texts that were hidden."""
        if not self._may_hold(body):
            return body, []
        hidden: list[str] = []
        packed = kind.split(";", maxsplit=1)[0].strip().lower() == MSGPACK
        try:
            document = _unpacked(body) if packed else _document(body)
            left = self._without(document, self.names, hidden)
            if left is document:
                return body, []
            return (msgspec.msgpack.encode(_plain(left)) if packed else _written(_plain(left))), hidden
        except (_Unreadable, RecursionError):
            return REDACTED.encode(), hidden

    def _may_hold(self, body: bytes) -> bool:
        """Whether a rule may name a value in the body; a name may be written with escapes."""
        if not all(name.isascii() for name in self.names):
            return True  # bytes.lower() changes ASCII letters only
        lowered = body.replace(b"\0", b"").lower()  # of UTF-16 and UTF-32, every other byte is 0
        lasts = {name.rpartition(".")[2].encode() for name in self.names}
        return any(last in lowered for last in lasts) or (
            bool(self.names) and _ESCAPED.search(lowered) is not None
        )

    def _without(self, value: Any, paths: Sequence[str], hidden: list[str]) -> Any:
        """Hide the values at `paths`; returns the same object when nothing in it is hidden."""
        if isinstance(value, _Pairs):
            pairs = [(name, self._member(name, each, paths, hidden)) for name, each in value.pairs]
            same = all(now is before for (_, now), (_, before) in zip(pairs, value.pairs, strict=True))
            return value if same else _Pairs(pairs)
        if isinstance(value, list):
            each = [self._without(one, paths, hidden) for one in value]
            return value if all(now is before for now, before in zip(each, value, strict=True)) else each
        return value

    def _member(self, name: Any, value: Any, paths: Sequence[str], hidden: list[str]) -> Any:
        # A name may itself hold dots.
        key = str(name).lower()
        if key in paths:
            hidden.extend(_texts(value))
            return REDACTED
        below = [path[len(key) + 1 :] for path in paths if path.startswith(key + ".")]
        return self._without(value, below, hidden) if below else value


class Values(Struct, frozen=True):
    """The texts that must not occur in text about one message, the longest first."""

    texts: tuple[str, ...] = ()
    everything: bool = False
    """Whether there are so many that all text is hidden."""

    def __bool__(self) -> bool:
        return self.everything or bool(self.texts)

    def hide(self, text: str) -> str:
        """Hide the values in a text."""
        if self.everything:
            return REDACTED if text else text
        for each in self.texts:
            if each in text:
                text = text.replace(each, REDACTED)
        return self._at_cuts(text) if self.texts and CUT in text else text

    def _at_cuts(self, text: str) -> str:
        """Hide the parts of values that stand before or after a cut."""
        pieces = text.split(CUT)
        for at in range(len(pieces)):
            if at < len(pieces) - 1:
                pieces[at] = _without_end(pieces[at], self.texts)
            if at > 0:
                pieces[at] = _without_beginning(pieces[at], self.texts)
        return CUT.join(pieces)


NONE = Values()


def all_of(found: Iterable[Values]) -> Values:
    """Join the values that must not occur in text about several messages."""
    each = [values for values in found if values]
    texts = {text for values in each for text in values.texts}
    if any(values.everything for values in each) or len(texts) > MOST:
        return Values(everything=True)
    return Values(tuple(sorted(texts, key=len, reverse=True)))


class _Pairs:
    """A JSON object with every member that was written, also members of the same name."""

    __slots__ = ("pairs",)

    def __init__(self, pairs: list[tuple[Any, Any]]) -> None:
        self.pairs = pairs


def _document(body: bytes) -> Any:
    options: dict[str, Any] = {"object_pairs_hook": _Pairs, "parse_float": _literal}
    try:
        try:
            return json.loads(body, **options)
        except UnicodeDecodeError:
            return json.loads(body.decode("utf-8", "surrogateescape"), **options)
    except (ValueError, RecursionError):
        raise _Unreadable from None


def _written(value: Any) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half a surrogate pair
        return json.dumps(value).encode()


def _literal(text: str) -> Literal:
    number = Literal(text)
    number.written = text
    return number


def _unpacked(body: bytes) -> Any:
    try:
        return _paired(msgspec.msgpack.decode(body, strict=False))
    except (ValueError, TypeError, RecursionError):
        raise _Unreadable from None


def _paired(value: Any) -> Any:
    if isinstance(value, dict):
        return _Pairs([(name, _paired(each)) for name, each in value.items()])
    return [_paired(each) for each in value] if isinstance(value, (list, tuple)) else value


def _plain(value: Any) -> Any:
    if isinstance(value, _Pairs):
        return {name: _plain(each) for name, each in value.pairs}
    return [_plain(each) for each in value] if isinstance(value, list) else value


def _texts(value: Any) -> Iterator[str]:
    """Every text and number in a value, as it may be written elsewhere."""
    if isinstance(value, _Pairs):
        for _, each in value.pairs:
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)
    elif isinstance(value, Literal):
        yield value.written
        yield repr(float(value))
    elif isinstance(value, bytes):
        yield value.decode("utf-8", "surrogateescape")
    elif value is not None and not isinstance(value, bool):
        yield str(value)


def _parts(value: str) -> Iterator[str]:
    """A header's value, and the secrets in it: the token of `Bearer …`, each value of a cookie."""
    yield value
    words = _APART.split(value)
    for at, word in enumerate(words):
        if at or not _SCHEME.fullmatch(word):
            yield word
            yield word.partition("=")[2]


def _forms(value: str) -> Iterator[str]:
    """The ways in which a text is written into others."""
    yield value
    yield value.strip()
    yield " ".join(value.split())
    yield repr(value)[1:-1]
    yield json.dumps(value)[1:-1]
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    yield shown.line(value)
    yield shown.line(" ".join(value.split()))
    yield from (line.strip() for line in value.splitlines() if len(line.strip()) > 2 * SHORTEST)


def _without_end(piece: str, texts: Sequence[str]) -> str:
    for text in texts:
        begin = piece.find(text[:SHORTEST], max(0, len(piece) - min(len(text), LONGEST_REST)))
        while begin >= 0:
            if text.startswith(piece[begin:]):
                return piece[:begin] + REDACTED
            begin = piece.find(text[:SHORTEST], begin + 1)
    return piece


def _without_beginning(piece: str, texts: Sequence[str]) -> str:
    for text in texts:
        last, end = text[-SHORTEST:], min(len(piece), len(text), LONGEST_REST)
        begin = piece.rfind(last, 0, end)
        while begin >= 0:
            if text.endswith(piece[: begin + SHORTEST]):
                return REDACTED + piece[begin + SHORTEST :]
            begin = piece.rfind(last, 0, begin + SHORTEST - 1)
    return piece
