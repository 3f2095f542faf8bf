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
"""Most bytes of a subject: the server refuses a control line over 4,096, and ours also holds a reply subject."""

RESERVED = (
    "$JS.", "$SYS.", "$SRV.", "$KV.jetrunner.", "_INBOX.", "_jetrunner.", "jetrunner.",
    "$JETRUNNER.", "deadletters.", "parked.",
)  # fmt: skip
"""The beginnings of subjects to which no message of a project is published."""

_ONE = "*"
_MANY = ">"
_UNFILLED = re.compile(r"\{(?:\d?|[^\W\d][\w.\[\]()'\"]*)(?:![rsa])?(?::[^{}.]*)?\}")
"""Placeholders of Python's f-strings and `format`; a UUID in braces is none."""
_UNFIT = re.compile(rb"[\x00-\x20\x7f]")

# Unicode whitespace is legal for the server, but nobody means it; surrogates cannot be sent as UTF-8.
_BAD = re.compile(r"[\s\x00-\x20\x7f-\x9f\ud800-\udfff]")
_VALUE = re.compile(r"(?![*>]\Z)[^\s\x00-\x20\x7f-\x9f\ud800-\udfff.]+")


class Template(Struct, frozen=True):
    """A subject whose tokens may be `{named}`; made by `Template.parse`."""

    text: str
    """The template as it was written."""
    wildcard: str
    """The template with every `{name}` replaced by `*`, as NATS sees it."""
    names: tuple[str, ...]
    """The names, in the order of their tokens."""
    positions: tuple[int, ...]
    """The token's index of each name, from 0."""

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
        """True when the template stands for exactly one subject."""
        return not _is_wild(self.wildcard)

    @property
    def renderable(self) -> bool:
        """True when the names are the only wildcards, so that values for them give one subject."""
        return not _is_wild(self.text)

    def extract(self, subject: str) -> dict[str, str]:
        """Map each name to its token in a subject that `wildcard` matches; ValueError when the subject is too short."""
        if not self.names:
            return {}
        tokens = subject.split(".")
        try:
            return {name: tokens[position] for name, position in zip(self.names, self.positions, strict=True)}
        except IndexError:
            raise ValueError(f"subject {subject!r} does not match {self.text!r}") from None

    def render(self, values: Mapping[str, str]) -> str:
        """Fill in every name; ValueError when a value is missing or is not one legal token."""
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
        # Braces enclose nothing but a whole identifier here, so this is a plain substitution.
        return self.text.format_map(values)


def matches(pattern: str, subject: str) -> bool:
    """Tell whether a pattern matches a literal subject."""
    return covers(pattern, subject)


def is_reserved(subject: str) -> bool:
    """Whether a subject belongs to the server or to Jetrunner, so that a message published there has an effect of its own."""
    return subject.startswith(RESERVED)


def covers(outer: str, inner: str) -> bool:
    """Tell whether `outer` matches every subject that `inner` matches."""
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
    """Tell whether some subject matches both patterns."""
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
    """Whether a subject to publish to still holds a name in braces, which a handler would get as a value."""
    return "{" in subject and _UNFILLED.search(subject) is not None


def wire_problem(subject: bytes, reply: bytes, longest: int = LONGEST) -> str | None:
    """Say why these bytes cannot be a control line's subject and reply (empty: no reply); None when they can.

    `longest` is the most bytes of the subject; subject and reply together may have a quarter more.
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
