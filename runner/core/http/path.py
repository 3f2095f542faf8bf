"""Paths of requests in canonical form: the table compares paths in this form, and no other code resolves them.

Rule 1: a path is cut at its slashes first; then each segment is percent-decoded, once. An encoded slash (`%2F`) is a
        character of its segment and does not separate segments, and `%252F` is the text `%2F`.
Rule 2: the answer is 400 for paths that no client means, or that two programs read differently: a segment `.` or `..`, encoded
        or not; a control character such as NUL; a `%` without two hexadecimal digits; bytes that are not UTF-8; a raw backslash,
        space, `#`, `?` or byte over 127; a path that does not begin with a slash.
Rule 3: nothing else is changed. Slashes are not merged: `//a` is an empty segment before `a`, and no `{token}` matches an empty
        one. `;` has no meaning: `/a;x=1` is one segment, and not `/a`. Letters keep their case.

Where nginx and Envoy differ, these rules follow the stricter one. nginx would decode `%2F` to a separator, resolve `..` and merge
slashes before it compares. Envoy compares the path as it came, so that `/%61dmin` gets past a rule for `/admin`.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote_to_bytes

_PLAIN = re.compile(rb"/[!\"$&->@-\[\]-~]*")
"""Visible ASCII without `#`, `%`, `?` and the backslash."""
_ESCAPED = re.compile(rb"/(?:[!\"$&->@-\[\]-~]|%[0-9A-Fa-f]{2})*")
_KEPT = re.compile(rb"%(25|2[Ff])")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_DOTS = re.compile(r"/\.\.?(?:/|\Z)")
_NAME = re.compile(r"\{([^{}]+)\}")

SAFE = "!$&'()*+,;=:@~/"
"""The characters besides letters, digits, `-`, `.` and `_` that a path may have unencoded."""


def canonical(raw: bytes) -> str:
    """The canonical form of a path: decoded except `%2F` and `%25` in a segment; ValueError says what is wrong with it."""
    if _PLAIN.fullmatch(raw):
        found = raw.decode("ascii")
    elif not _ESCAPED.fullmatch(raw):
        raise ValueError("the path is not a path, percent-encoded once")
    else:
        try:
            found = unquote_to_bytes(_KEPT.sub(_keep, raw)).decode()
        except UnicodeDecodeError:
            raise ValueError("the path is not UTF-8") from None
        if _CONTROL.search(found):
            raise ValueError("the path has a control character")
    if "/." in found and _DOTS.search(found):
        raise ValueError("the path has a segment '.' or '..'")
    return found


def declared(text: str) -> str:
    """The canonical form of a route's path, which may have letters of all scripts unencoded."""
    if wrong := re.search(r"[\\#?]", text):
        raise ValueError(f"the path has a {wrong.group()!r}")
    return canonical(quote(text, safe=SAFE + '%"<>[]^`{|}').encode())


def value(segment: str) -> str:
    """The text of a segment of canonical form, fully decoded."""
    return segment.replace("%2F", "/").replace("%25", "%") if "%" in segment else segment


def encoded(path: str) -> str:
    """A path of canonical form, percent-encoded again."""
    return quote(path, safe=SAFE + "%") if "%" in path else quote(path, safe=SAFE)


def names(path: str) -> tuple[str, ...]:
    """The names of a pattern's segments; ValueError for a brace elsewhere, or for a name that occurs twice."""
    found: list[str] = []
    for segment in path.split("/"):
        name = name_of(segment)
        if name is None:
            continue
        if name in found:
            raise ValueError(f"{{{name}}} appears twice")
        found.append(name)
    return tuple(found)


def name_of(segment: str) -> str | None:
    """The name of a `{named}` segment; None for a literal one; ValueError for anything else."""
    if "{" not in segment and "}" not in segment:
        return None
    if (found := _NAME.fullmatch(segment)) and found[1].isidentifier():
        return found[1]
    raise ValueError(f"{{name}} is a whole segment and an identifier, not {segment!r}")


def _keep(found: re.Match[bytes]) -> bytes:
    return b"%2525" if found[1] == b"25" else b"%252F"
