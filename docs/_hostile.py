"""Writes reference/hostile.md from the tables that the tests try (tests/support/hostile.py): `just docs`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from http import HTTPStatus
from pathlib import Path

from runner.gateway.limits import Limits
from tests.support.hostile import INJECTED, REFUSED, SLOW

PAGE = Path(__file__).parent / "reference" / "hostile.md"
LONGEST = 70  # characters of a request that are shown
HEAD = """# Hostile clients

<!-- Written by docs/_hostile.py from tests/support/hostile.py: change them there, then run `just docs`. -->

This page lists how the HTTP edge answers clients that are malicious, broken or slow. A test tries each row over a bare socket: [what the connection refuses, and slow clients](../../tests/gateway/test_guard.py),
[what reaches a function](../../tests/gateway/test_hostile.py). `runner gateway`, `runner run --http` and `runner dev` behave alike.

A refused request gets one answer, as `application/problem+json`, after the answers to earlier requests on the connection. Then the connection is closed; later bytes on it are not read as a request.
"""
LIMITS = Limits()
SLOWLY = f"""
## Slow clients

A head has to be complete within {LIMITS.head_seconds:g} s of its first byte. A body has {LIMITS.body_seconds:g} s, and 1 s more for each {LIMITS.body_rate:,} bytes.

| the client | gets |
|---|---|
"""
UNREAD = f"""| reads nothing of its answer | cut off after {LIMITS.unread_seconds:g} s, and after {LIMITS.unread_leaving_seconds:g} s while the process ends |
| reads slowly | its answer |
| asks {LIMITS.pipelined} times without reading | 429 Too Many Requests, after the answers to those before |
| opens more than {LIMITS.connections:,} connections | 503 Service Unavailable |
"""


def status(code: int) -> str:
    """As HTTP names it."""
    return f"{code} {HTTPStatus(code).phrase}"


def shown(data: bytes) -> str:
    """The beginning of what is said, as code in a table."""
    text = repr(data.removesuffix(b"\r\n\r\n"))[2:-1].replace("\\\\", "\\")
    return f"`{text[:LONGEST]}{'…' if len(text) > LONGEST else ''}`".replace("|", "\\|")


def row(*cells: str) -> str:
    """A line of a table."""
    return f"| {' | '.join(cells)} |\n"


def parts() -> Iterator[str]:
    """The page, piece by piece."""
    yield HEAD
    for title, rows in REFUSED.items():
        yield f"\n## {title}\n\n| the client says | as | gets |\n|---|---|---|\n"
        yield from (row(client, shown(data), status(code)) for client, (code, data) in rows.items())
    yield (
        f"\nThe tests use small limits. In production a head may have {LIMITS.head_bytes // 1024} KiB and {LIMITS.headers} headers, and a body {LIMITS.body_bytes // 1024**2} MiB unless "
        "[`http_body_limit`](settings.md) says otherwise.\n"
    )
    yield SLOWLY
    yield from (row(client, status(slow.gets) if slow.gets else "closed") for client, slow in SLOW.items())
    yield UNREAD
    yield "\n## Injection\n\nEach request is well-formed, but tries to plant headers or subjects. It goes to a function that returns what it received.\n\n"
    yield "| the client says | as | gets |\n|---|---|---|\n"
    yield from _injected()


def _injected() -> Iterable[str]:
    for client, each in INJECTED.items():
        said = each.says.replace(b"\r\nConnection: close", b"")
        said = said.replace(b"\r\nHost: example.com\r\n", b"\r\n")
        yield row(
            client, shown(said), f"{status(each.gets)}: {each.told}" if each.told else status(each.gets)
        )


def page() -> str:
    """The whole page."""
    return "".join(parts())


if __name__ == "__main__":
    PAGE.write_text(page())
