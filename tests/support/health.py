"""What a process says over HTTP of its health."""

from __future__ import annotations

import urllib.error
import urllib.request

from anyio import to_thread


async def asked(port: int, path: str) -> tuple[int, str]:
    """Status and body of a GET."""

    def get() -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    return await to_thread.run_sync(get)


def number(text: str, series: str) -> float:
    """The value of one series, as `/metrics` writes its name and labels."""
    (line,) = [each for each in text.splitlines() if each.startswith(f"{series} ")]
    return float(line.removeprefix(f"{series} "))
