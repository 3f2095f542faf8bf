r"""Foreign text, made safe to show: characters that would act on a terminal, or mislead the reader of a log, are escaped.

These are control characters (C0, DEL and C1; with ESC also colours, titles and the clipboard), marks and controls that turn
the direction of writing, line separators, invisible tags, and surrogates. A byte that was no UTF-8 is shown as `\xff`, and so
is every escaped character up to U+00FF.
"""

from __future__ import annotations

import re

_ACTING = "\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"
_IN_LINE = re.compile(f"[\t\n{_ACTING}]")
_IN_BLOCK = re.compile(f"[{_ACTING}]")
_NAMED = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


def line(text: str) -> str:
    """Escape a text into one line."""
    return text if text.isprintable() else _IN_LINE.sub(_escaped, text)


def block(text: str, indent: str = "") -> str:
    """Escape a text, but keep its line breaks and tabs; each line begins with `indent`."""
    escaped = text if text.isprintable() else _IN_BLOCK.sub(_escaped, text.replace("\r\n", "\n"))
    return indent + escaped.replace("\n", "\n" + indent) if indent else escaped


def raw(value: bytes) -> str:
    """Escape bytes into one line."""
    return line(value.decode("utf-8", "surrogateescape"))


def _escaped(found: re.Match[str]) -> str:
    text = found[0]
    code = ord(text)
    if 0xDC80 <= code <= 0xDCFF:
        return rf"\x{code - 0xDC00:02x}"
    if text in _NAMED:
        return _NAMED[text]
    return rf"\x{code:02x}" if code < 0x100 else rf"\u{code:04x}" if code < 0x10000 else rf"\U{code:08x}"
