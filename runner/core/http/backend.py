"""Backends: what a route leads to."""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct

from runner.core.subject import Template


class Request(Struct, frozen=True):
    """A subject on which a `@reply` function answers: its answer is the response."""

    subject: Template
    """Its names are filled in from the tokens of the path."""
    typed: bool = False
    """Whether it is known that the function reads JSON and MessagePack alone; those of other projects are not known."""


class Publish(Struct, frozen=True):
    """A subject that a stream captures: 202 once the stream has the message."""

    subject: Template
    """Its names are filled in from the tokens of the path."""


class Call(Struct, frozen=True):
    """A `@route` function, which runs in the gateway itself."""

    function: str
    """The name of its binding."""
    method: str = ""
    """The one that it answers, where a manifest leads to it; empty where the route itself says that."""
    auth: tuple[str, ...] = ()
    """Who may ask it, where a manifest that leads to it does not say."""


class Redirect(Struct, frozen=True, kw_only=True):
    """An answer with a `Location`; what is None stays as it was asked."""

    status: Literal[301, 302, 303, 307, 308] = 302
    scheme: Literal["http", "https"] | None = None
    host: str | None = None
    port: int | None = None
    path: str | None = None
    """A whole path, percent-encoded."""
    replace_prefix: str | None = None
    """What takes the place of the prefix that the route has matched; never together with `path`."""


class Fixed(Struct, frozen=True):
    """An answer that is always the same: of a service that does not exist, for example."""

    status: int
    detail: str
    """One sentence for the client; it holds no names of the inside."""


class Static(Struct, frozen=True):
    """A body that is always the same: a page, or a document."""

    body: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    """Its `content-type` among them."""


Backend: TypeAlias = Request | Publish | Call | Redirect | Fixed | Static
