"""Subjects: templates with `{token}` names, and the set algebra of wildcards.

Rule 1: a subject is tokens joined by dots; no token is empty, none holds whitespace or control characters.
Rule 2: `*` stands for exactly one token; `>` for one or more, and only at the end.
Rule 3: `{name}` is a `*` that remembers what it matched; it is a whole token, never a part of one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from msgspec import Struct

LONGEST = 3_000
"""Bytes a subject may have: the server refuses a control line over 4,096, and ours also carries a reply subject."""

RESERVED = (
    "$JS.", "$SYS.", "$SRV.", "$KV.jetrunner.", "_INBOX.", "_jetrunner.", "jetrunner.",
    "$JETRUNNER.", "deadletters.", "parked.",
)  # fmt: skip
"""What subjects begin with that no message of a project is published to."""

_ONE = "*"
_MANY = ">"
_UNFILLED = re.compile(r"\{(?:\d?|[^\W\d][\w.\[\]()'\"]*)(?:![rsa])?(?::[^{}.]*)?\}")
"""What Python's f-strings and `format` replace; a braced UUID is none of it."""
_UNFIT = re.compile(rb"[\x00-\x20\x7f]")

# Unicode whitespace is legal for the server, but nobody means it; surrogates cannot be sent as UTF-8.
_BAD = re.compile(r"[\s\x00-\x20\x7f-\x9f\ud800-\udfff]")
_VALUE = re.compile(r"(?![*>]\Z)[^\s\x00-\x20\x7f-\x9f\ud800-\udfff.]+")


class Template(Struct, frozen=True):
    """A subject whose tokens may be `{named}`; `Template.parse` is the way to make one."""

    text: str
    """As written."""
    wildcard: str
    """With every `{name}` replaced by `*`: what NATS sees."""
    names: tuple[str, ...]
    """Names in the order of their tokens."""
    positions: tuple[int, ...]
    """Token index of each name, counted from 0."""

    @classmethod
    def parse(cls, text: str) -> Template:
        """Read a template; ValueError says in one sentence what is wrong with it."""
        if why := _shape_problem(text):
            raise ValueError(f"subject {text!r}: {why}")
        tokens = text.split(".")
        names: list[str] = []
        positions: list[int] = []
        for position, token in enumerate(tokens):
            last = position == len(tokens) - 1
            if why := _token_problem(token, last=last):
                raise ValueError(f"subject {text!r}: {why}")
            if not token.startswith("{"):
                continue
            name = token[1:-1]
            if name in names:
                raise ValueError(f"subject {text!r}: {{{name}}} appears twice")
            names.append(name)
            positions.append(position)
            tokens[position] = _ONE
        first = tokens[0]
        if first.startswith(("$", "_INBOX")):
            raise ValueError(f"subject {text!r}: {first}.> belongs to the NATS system")
        return cls(text, ".".join(tokens), tuple(names), tuple(positions))

    @property
    def is_literal(self) -> bool:
        """True when it stands for exactly one subject."""
        return not _is_wild(self.wildcard)

    @property
    def renderable(self) -> bool:
        """True when its names are its only wildcards, so that values make it one subject."""
        return not _is_wild(self.text)

    def extract(self, subject: str) -> dict[str, str]:
        """Map name → token of a subject that `wildcard` matches (ValueError when it is too short to)."""
        if not self.names:
            return {}
        tokens = subject.split(".")
        try:
            return {name: tokens[position] for name, position in zip(self.names, self.positions, strict=True)}
        except IndexError:
            raise ValueError(f"subject {subject!r} does not match {self.text!r}") from None

    def render(self, values: Mapping[str, str]) -> str:
        """Fill every name in; ValueError when a value is missing or is not one legal token."""
        for name in self.names:
            value = values.get(name)
            if value is None:
                raise ValueError(f"subject {self.text!r}: no value for {{{name}}}")
            if not _VALUE.fullmatch(value):
                raise ValueError(
                    f"subject {self.text!r}: {{{name}}} cannot be {value!r}, which is not one token"
                )
        if not self.renderable:
            raise ValueError(f"subject {self.text!r}: a bare wildcard cannot be filled in")
        # Braces only ever enclose a whole identifier here, so this is a plain substitution.
        return self.text.format_map(values)


def matches(pattern: str, subject: str) -> bool:
    """Tell whether a literal subject is one of those the pattern stands for."""
    return covers(pattern, subject)


def is_reserved(subject: str) -> bool:
    """Whether a subject is the server's own, or one of Jetrunner's: what is published there acts."""
    return subject.startswith(RESERVED)


def covers(outer: str, inner: str) -> bool:
    """Tell whether every subject that `inner` stands for is also one of `outer`'s."""
    if outer == inner:
        return True
    inners = inner.split(".")
    count = len(inners)
    outers = outer.split(".")
    for position, token in enumerate(outers):
        if position >= count:
            return False
        if token == _MANY:
            return True
        if inners[position] == _MANY or token not in (_ONE, inners[position]):
            return False
    return len(outers) == count


def overlaps(a: str, b: str) -> bool:
    """Tell whether some subject is stood for by both patterns."""
    left, right = a.split("."), b.split(".")
    for one, other in zip(left, right, strict=False):
        if _MANY in (one, other):
            return True
        if one != other and _ONE not in (one, other):
            return False
    return len(left) == len(right)


def problem(subject: str) -> str | None:
    """Say why a message cannot be published to this subject; None when it can."""
    if why := _shape_problem(subject):
        return why
    for token in subject.split("."):
        if token in (_ONE, _MANY):
            return f"the wildcard {token!r} stands for many subjects; publish to one"
    return None


def unfilled(subject: str) -> bool:
    """Whether a name in braces stands in a subject that is published: a handler would get it for a value."""
    return "{" in subject and _UNFILLED.search(subject) is not None


def wire_problem(subject: bytes, reply: bytes, longest: int = LONGEST) -> str | None:
    """Say why these bytes cannot stand in a control line as a subject and its reply (empty: none); None when they can.

    `longest` is of the subject; with its reply it may be a quarter longer.
    """
    if not subject:
        return "the subject is empty"
    if _UNFIT.search(subject):
        return "the subject contains whitespace or a control character"
    if reply and _UNFIT.search(reply):
        return "the reply contains whitespace or a control character"
    if len(subject) > longest or len(subject) + len(reply) > longest + longest // 4:
        return f"it is longer than {longest:,} bytes"
    return None


def _shape_problem(subject: str) -> str | None:
    if not subject:
        return "it is empty"
    if bad := _BAD.search(subject):
        return f"it contains {bad.group()!r}; whitespace and control characters are not allowed"
    if subject[0] == "." or subject[-1] == "." or ".." in subject:
        return "it has an empty token"
    if len(subject) * 4 > LONGEST and len(subject.encode()) > LONGEST:
        return f"it is longer than {LONGEST:,} bytes"
    return None


def _token_problem(token: str, *, last: bool) -> str | None:
    if token == _MANY:
        return None if last else "> must be the last token"
    if token == _ONE:
        return None
    if _ONE in token or _MANY in token:
        return f"a wildcard is a whole token, not a part of {token!r}"
    if "{" not in token and "}" not in token:
        return None
    if not (token.startswith("{") and token.endswith("}")) or "{" in token[1:] or "}" in token[:-1]:
        return f"{{name}} is a whole token, not a part of {token!r}"
    if not token[1:-1].isidentifier():
        return f"{token} does not hold an identifier"
    return None


def _is_wild(subject: str) -> bool:
    return subject[-1] == ">" or "*" in subject
