"""The caller of a request: its address and its name. A client that guesses keys has to wait."""

from __future__ import annotations

import time

from runner.core.http.caller import Caller, Denied
from runner.core.http.guesses import Guesses
from runner.core.http.proxies import Proxies
from runner.core.http.route import Options
from runner.gateway.answer import Answer, trouble
from runner.gateway.auth import Authentications
from runner.gateway.exchange import Exchange

clock = time.monotonic


class Callers:
    """Finds the callers of one process's requests, and counts wrong keys."""

    def __init__(self, auth: Authentications, proxies: Proxies, guesses: Guesses) -> None:
        self._auth = auth
        self._proxies = proxies
        self._guesses = guesses

    def trace_back(self, exchange: Exchange) -> None:
        """Find the client's address and scheme, if a trusted proxy tells them."""
        if self._proxies:
            exchange.client, exchange.scheme = self._proxies.seen(exchange.client, exchange.headers)

    async def refused(self, options: Options, exchange: Exchange) -> Answer | None:
        """Find the caller on a route with authentication; gives the refusal if it may not ask. Raises what reading a body raises."""
        if wait := self._guesses.wait(exchange.client, clock()):
            return trouble(429, "too many keys or tokens were wrong; try again later", after=max(1.0, wait))
        caller = self._check(options, exchange, None)
        if caller is None:  # the body decides
            caller = self._check(options, exchange, await exchange.body(options.body_limit))
        if isinstance(caller, Denied):
            if caller.wrong:
                self._guesses.failed(exchange.client, clock())
            shown = [(b"www-authenticate", caller.challenge.encode())] if caller.challenge else []
            return trouble(caller.status, caller.detail, headers=shown)
        assert caller is not None  # with a body it is never None
        exchange.caller = caller
        if spent := self._auth.spent(options.auth, caller.auth):
            exchange.headers = [each for each in exchange.headers if each[0] not in spent]
        return None

    def _check(self, options: Options, exchange: Exchange, body: bytes | None) -> Caller | Denied | None:
        return self._auth.check(options.auth, exchange.headers, body, time.time())
