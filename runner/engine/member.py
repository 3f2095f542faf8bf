"""What the instances of a project tell each other about themselves."""

from __future__ import annotations

import msgspec


class Member(msgspec.Struct, frozen=True):
    """What an instance says of itself in its lease."""

    instance: str
    functions: tuple[str, ...]
    """The ordered functions that it runs."""
    leaving: bool = False
    """It gives its shards away and takes none."""
    server: str = ""
    """The id of the server that it is connected to."""


class News(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is said to all: one of these."""

    joined: Member | None = None
    left: str = ""
    dead: str = ""
