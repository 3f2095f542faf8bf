"""What the instances of a project tell each other about themselves."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from runner.core import checked
from runner.core.checked import Function, Id, Instance, Owner


class Member(msgspec.Struct, frozen=True):
    """What an instance says of itself in its lease."""

    instance: Instance
    functions: Annotated[tuple[Function, ...], Meta(max_length=10_000)]
    """The ordered functions that it runs."""
    leaving: bool = False
    """It gives its shards away and takes none."""
    server: Id = ""
    """The id of the server that it is connected to."""


class News(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is said to all: one of these."""

    joined: Member | None = None
    left: Owner = ""
    dead: Owner = ""


read_member = checked.json(Member)
"""What stands in a lease; raises `Unfit`."""
read_news = checked.json(News)
"""What was said; raises `Unfit`."""
