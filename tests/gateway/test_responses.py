"""Responses that cannot be sent: the client is told, the process and its messages stand as they were."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from runner import Response, route
from tests.gateway.conftest import Serving

pytestmark = [pytest.mark.server, pytest.mark.anyio]

ODD: dict[str, Any] = {
    "number": {"X-Total-Count": 5},
    "bytes": {"X-Total": b"5"},
    "nothing": {"X-Total": None},
    "name": {5: "five"},
    "kind": {"Content-Type": 5},
    "none": None,
    "list": [("X-Total", "5")],
}


@route("GET", "/odd/{how}")
async def odd(how: str) -> Any:
    return Response({"is": how}, headers=ODD[how]) if how in ODD else Response({"is": how})


@pytest.mark.parametrize("how", ODD)
async def test_a_header_that_is_no_text_is_a_problem_and_ends_nothing(
    serving: Serving, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    caplog.set_level(logging.WARNING)
    async with serving(odd) as (_, client):
        answer = await client.get(f"/odd/{how}")
        assert (answer.status_code, answer.json()["detail"]) == (500, "the function failed")
        told = [each.getMessage() for each in caplog.records if "header" in each.getMessage()]
        assert len(told) == 1
        assert "test_responses.py:" in told[0], "it says which function returned that"
        assert (await client.get("/odd/not")).json() == {"is": "not"}, "the slot lives on"
