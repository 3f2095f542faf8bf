"""Requests that a function answers over NATS: one of its instances is asked, and another where that fails.

Rule 1: a request that may have begun is sent again only where the function says that it is idempotent, whatever its method:
        a GET may do what its author did not mean to do twice. One that has not begun goes to another instance always.
"""

from __future__ import annotations

from runner.core import header
from runner.errors import NoResponders, ServerError, ServiceError, TooLarge, Unconfirmed
from runner.gateway.answer import Answer, of_reply, trouble
from runner.gateway.httprequest import Http
from runner.requests.requester import Requester

AGAIN_SECONDS = 1.0
PASSED_ON = range(400, 500)
"""Codes whose words are for the client."""
_OURS = frozenset({401, 407, 408, 411, 413, 414, 415, 417, 426, 431})
"""Statuses that say something of the connection between client and gateway."""


class Forward:
    """Asks functions."""

    def __init__(self, requester: Requester) -> None:
        self._requester = requester

    async def answer(
        self, http: Http, subject: str, body: bytes, timeout: float, *, traced: bool, traces: bytes
    ) -> Answer:
        """The answer of a function; `traced`: within the current span."""
        lines = http.request_lines()
        sent_in = None if traced or not traces else b"NATS/1.0\r\n" + traces + b"\r\n"
        try:
            reply = await self._requester.request(subject, body, lines, timeout, sent_in=sent_in)
        except ServiceError as error:
            return _of_service(error)
        except NoResponders:
            return trouble(503, "nobody answers here now", after=AGAIN_SECONDS)
        except Unconfirmed:
            return trouble(504, "no answer came in time")
        except TooLarge:
            return trouble(413, "the body is too large for the function behind")
        except ServerError as error:
            found = trouble(502, "the request could not be passed on")
            found.why = str(error)
            return found
        kind = header.get(reply.header, b"Content-Type") if reply.header is not None else None
        return of_reply(reply, kind)


def _of_service(error: ServiceError) -> Answer:
    code = error.code or 500
    if code == 408:
        return trouble(504, "the function took too long")
    if code in (429, 503):
        detail = "too many requests wait; try again later" if code == 429 else "the function is not there now"
        return trouble(code, detail, after=AGAIN_SECONDS)
    if code in PASSED_ON and code not in _OURS:
        return trouble(code, str(error))
    found = trouble(500 if code == 500 else 502, "the function failed")
    found.why = str(error)
    return found
