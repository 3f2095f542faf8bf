"""Requests that a function answers over NATS: one of its instances is asked, and another one if that fails.

Rule 1: a request that has not begun always goes to another instance. A request that may have begun is sent again only if the
        function says that it is idempotent. The HTTP method does not count: even a GET may do something that must not happen twice.
"""

from __future__ import annotations

from runner.core import header
from runner.core.answered import relayed
from runner.errors import NoResponders, ServerError, ServiceError, TooLarge, Unconfirmed
from runner.gateway.answer import Answer, of_reply, trouble
from runner.gateway.httprequest import Http
from runner.requests.requester import Requester


class Forward:
    """Asks functions over NATS."""

    def __init__(self, requester: Requester) -> None:
        self._requester = requester

    async def answer(
        self, http: Http, subject: str, body: bytes, timeout: float, *, traced: bool, traces: bytes
    ) -> Answer:
        """Ask a function. With `traced` the request belongs to the current span; else `traces` are the trace headers to carry on."""
        lines = http.request_lines()
        sent_in = None if traced or not traces else b"NATS/1.0\r\n" + traces + b"\r\n"
        try:
            reply = await self._requester.request(subject, body, lines, timeout, sent_in=sent_in)
        except (ServiceError, NoResponders, Unconfirmed) as error:
            told = relayed(error)
            assert told is not None
            found = trouble(told.code, told.text, after=told.after)
            found.why = str(error) if told.code >= 500 else told.text
            return found
        except TooLarge:
            return trouble(413, "the body is too large for the function behind")
        except ServerError as error:
            found = trouble(502, "the request could not be passed on")
            found.why = str(error)
            return found
        kind = header.get(reply.header, b"Content-Type") if reply.header is not None else None
        return of_reply(reply, kind)
