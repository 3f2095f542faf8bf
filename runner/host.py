"""What runs a handler, as the context sees it."""

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
    """Whether its headers say that the body is MessagePack."""
    header: bytes | None = None
    """The block of its headers."""

    def decode(self, returns: Any) -> Any:
        """The answer as `returns`; without, as plain JSON, and an empty one as None. Raises DecodeError."""
        if returns is None and not self.body:
            return None
        try:
            decode = _decoder(Any if returns is None else returns)
        except TypeError:  # an annotation that has no hash, or that nothing decodes to
            decode = codec.decoder(returns)
        return decode(self.body, self.msgpack)


@lru_cache(maxsize=1_024)
def _decoder(annotation: Any) -> Callable[[bytes, bool], Any]:
    """Compiling one costs more than a request."""
    return codec.decoder(annotation)


def require_timeout(timeout: float) -> float:
    """The same; raises ValueError for what is no time to wait."""
    if not 0 < timeout < inf:  # neither is nan
        raise ValueError(f"timeout={timeout} is no number of seconds above 0")
    return timeout


class Host(Protocol):
    """What runs a handler, and does for it what needs a connection."""

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
        """Send a request and wait for its answer, at most `timeout` seconds; `sent_in` are the headers of the handler's message."""
        ...

    def now(self) -> float:
        """Unix time by the server's clock, in seconds."""
        ...
