"""Lines of the access log."""

from __future__ import annotations

import json

from runner.gateway.access import LONGEST, AccessLine, AccessLog


def test_a_line_is_no_longer_than_its_path_may_be() -> None:
    written: list[bytes] = []
    access = AccessLog(written.append)
    for path in ("/a", "/" + "x" * 30_000):
        access.note(
            AccessLine(
                method="GET", host="a", path=path, route="r", status=200, bytes=1, seconds=0.1, client="::1",
                request_id="i",
            )
        )  # fmt: skip
    access.flush()
    first, second = map(json.loads, written[0].splitlines())
    assert list(first)[:4] == ["time", "method", "host", "path"]
    assert (first["path"], second["path"]) == ("/a", "/" + "x" * (LONGEST - 1))
