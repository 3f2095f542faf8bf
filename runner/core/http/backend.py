"""Backends: the things to which a route leads."""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct

from runner.core.subject import Template


class RequestBackend(Struct, frozen=True):
    """A subject on which a `@reply` function answers: its answer is the response."""

    subject: Template
    """Its names are filled in from the tokens of the path."""
    typed: bool = False
    """Whether the function is known to read only JSON and MessagePack; functions of other projects are not known."""


class Publish(Struct, frozen=True):
    """A subject that a stream captures: 202 once the stream has the message."""

    subject: Template
    """Its names are filled in from the tokens of the path."""


class FunctionBackend(Struct, frozen=True):
    """A `@route` function, which runs in the gateway itself."""

    function: str
    """The name of its binding."""
    method: str = ""
    """The method that it answers, if a manifest leads to it; empty: the route itself has the method."""
    auth: tuple[str, ...] = ()
    """The authentications of the function, if a manifest leads to it and names none."""


class Redirect(Struct, frozen=True, kw_only=True):
    """An answer with a `Location`; a part that is None stays as in the request."""

    status: Literal[301, 302, 303, 307, 308] = 302
    scheme: Literal["http", "https"] | None = None
    host: str | None = None
    port: int | None = None
    path: str | None = None
    """A whole path, percent-encoded."""
    replace_prefix: str | None = None
    """The text that replaces the prefix that the route has matched; never together with `path`."""


class Fixed(Struct, frozen=True):
    """An answer that is always the same, such as the one for a service that does not exist."""

    status: int
    detail: str
    """One sentence for the client; it holds no internal names."""


class Static(Struct, frozen=True):
    """An answer with a body that is always the same: a page, or a document."""

    body: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    """The headers of the answer, with its `content-type`."""


RouteBackend: TypeAlias = RequestBackend | Publish | FunctionBackend | Redirect | Fixed | Static
