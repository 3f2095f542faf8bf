"""Clients of an HTTP edge that ask without end while something happens to it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import httpx

from tests.support.eventually import eventually


class Load:
    """Asks as fast as it is answered, over connections that are kept; the statuses, and what failed."""

    def __init__(
        self, url: str, *paths: str, expected: Iterable[int] = (200,), headers: dict[str, str] | None = None
    ) -> None:
        """Each of `paths` is asked in turn, with a number as its last segment; other statuses than `expected` are failures."""
        self.statuses: Counter[int] = Counter()
        self.bodies: Counter[str] = Counter()
        self.failed: list[str] = []
        self._url = url
        self._paths = paths
        self._expected = frozenset(expected)
        self._headers = headers

    async def _ask(self) -> None:
        async with httpx.AsyncClient(base_url=self._url, timeout=20, headers=self._headers) as client:
            number = 0
            while True:
                path = self._paths[number % len(self._paths)]
                number += 1
                try:
                    answer = await client.get(f"{path}/{number}")
                except httpx.HTTPError as error:
                    self.failed.append(f"{path}: {error!r}")
                    continue
                self.statuses[answer.status_code] += 1
                self.bodies[answer.text] += 1
                if answer.status_code not in self._expected:
                    self.failed.append(f"{path}: {answer.status_code} {answer.text}")
                await asyncio.sleep(0.005)

    @asynccontextmanager
    async def asking(self, clients: int = 8) -> AsyncIterator[None]:
        """For the time of the block."""
        asked = [asyncio.create_task(self._ask()) for _ in range(clients)]
        try:
            yield
        finally:
            for each in asked:
                each.cancel()
            await asyncio.wait(asked)

    async def more(self, count: int) -> None:
        """Wait for so many more answers, or a failure."""
        total = self.statuses.total() + count
        await eventually(lambda: self.statuses.total() >= total or bool(self.failed))

    async def heard(self, body: str) -> None:
        """Wait for this answer, or a failure."""
        await eventually(lambda: self.bodies[body] > 0 or bool(self.failed))

    async def answered(self, status: int, count: int) -> None:
        """Wait for so many more answers of this status, or a failure."""
        total = self.statuses[status] + count
        await eventually(lambda: self.statuses[status] >= total or bool(self.failed))
