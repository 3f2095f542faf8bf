"""The host of a handler, as the handler's context sees it, and the answers that it gets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from math import inf
from typing import Any, Protocol

from msgspec import Struct

from runner import codec
from runner.core.balancer import Policy


class Reply(Struct, frozen=True, gc=False):
    """The answer to a request."""

    body: bytes
    msgpack: bool = False
    """Whether the headers say that the body is MessagePack."""
    header: bytes | None = None
    """The raw block of the answer's headers."""

    def decode(self, returns: Any) -> Any:
        """Decode the answer to `returns`; without `returns` as plain JSON, and an empty answer to None. Raises DecodeError."""
        if returns is None and not self.body:
            return None
        try:
            decode = _decoder(Any if returns is None else returns)
        except TypeError:  # the annotation has no hash, or no body is decoded to it
            decode = codec.decoder(returns)
        return decode(self.body, self.msgpack)


@lru_cache(maxsize=1_024)
def _decoder(annotation: Any) -> Callable[[bytes, bool], Any]:
    """The decoder for an annotation. It is kept: to compile it takes longer than a request."""
    return codec.decoder(annotation)


def require_timeout(timeout: float) -> float:
    """Return the timeout; raises ValueError unless it is a number of seconds above 0."""
    if not 0 < timeout < inf:  # nan is refused, too
        raise ValueError(f"timeout={timeout} is not a number of seconds above 0")
    return timeout


class Host(Protocol):
    """Runs a handler, and does for its context what needs a connection."""

    async def request(
        self,
        subject: str,
        body: bytes,
        headers: Mapping[str, str],
        timeout: float,
        *,
        policy: Policy | None = None,
        sent_in: bytes | None = None,
    ) -> Reply:
        """Send a request and wait for its answer, at most `timeout` seconds; `sent_in` has the headers of the handler's own message."""
        ...

    def now(self) -> float:
        """Unix time by the server's clock, in seconds."""
        ...
