"""Health over HTTP: `/livez`, `/readyz`, `/metrics`. Small on purpose: GET, one answer a connection."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from runner.core.histogram import lower
from runner.engine.function import Function
from runner.errors import SettingsError

PLAIN = "text/plain; charset=utf-8"
METRICS = "text/plain; version=0.0.4; charset=utf-8"


class Health:
    """Answers for one process. A blocked loop answers nothing: that is what `/livez` is for."""

    def __init__(self, functions: Sequence[Function], ready: Callable[[], str]) -> None:
        self._functions = functions
        self._ready = ready
        """Empty when ready, else the reason why not."""

    @asynccontextmanager
    async def listen(self, address: str) -> AsyncIterator[None]:
        """Serve on HOST:PORT for the time of the block."""
        host, _, port = address.rpartition(":")
        try:
            server = await asyncio.start_server(self._answer, host.strip("[]") or None, int(port))
        except (OSError, ValueError) as error:
            raise SettingsError(
                f"health cannot listen on {address}: {error}", hint="choose a free HOST:PORT"
            ) from None
        try:
            yield
        finally:
            server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(5):
                line = await reader.readline()
                while (await reader.readline()).strip():
                    pass
            method, path, *_ = [*line.decode("latin-1").split(maxsplit=2), "", ""]
            status, kind, body = self.respond(method, path.partition("?")[0])
            data = body.encode()
            writer.write(
                f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\n"
                "Connection: close\r\n\r\n".encode()
                + (b"" if method == "HEAD" else data)
            )
            await writer.drain()
        except (OSError, TimeoutError, ValueError, asyncio.LimitOverrunError):
            pass  # a client that went away or speaks something else
        finally:
            writer.close()

    def respond(self, method: str, path: str) -> tuple[str, str, str]:
        """Status line, content type and body for a request."""
        if method not in ("GET", "HEAD"):
            return "405 Method Not Allowed", PLAIN, "GET only\n"
        match path:
            case "/livez":
                return "200 OK", PLAIN, "ok\n"
            case "/readyz":
                reason = self._ready()
                return (
                    ("503 Service Unavailable", PLAIN, f"{reason}\n") if reason else ("200 OK", PLAIN, "ok\n")
                )
            case "/metrics":
                return "200 OK", METRICS, self.metrics()
        return "404 Not Found", PLAIN, "there is /livez, /readyz and /metrics\n"

    def metrics(self) -> str:
        """Prometheus' text format."""
        lines: list[str] = []

        def family(name: str, kind: str, text: str, samples: list[tuple[str, float]]) -> None:
            lines.extend((f"# HELP {name} {text}", f"# TYPE {name} {kind}"))
            lines.extend(f"{name}{labels} {value!r}" for labels, value in samples)

        each = [(f.binding.function, f.pipeline.stats, f) for f in self._functions]
        now = time.monotonic()
        family(
            "jetrunner_messages_total", "counter", "Messages settled, by outcome.",
            [
                (f'{{function="{name}",outcome="{outcome}"}}', count)
                for name, stats, _ in each
                for outcome, count in [("ack", stats.acked), ("retry", stats.retried), *sorted(stats.dead.items())]
            ],
        )  # fmt: skip
        family(
            "jetrunner_in_flight", "gauge", "Messages in work.",
            [(f'{{function="{name}"}}', function.unsettled) for name, _, function in each],
        )  # fmt: skip
        family(
            "jetrunner_pending", "gauge", "Messages not yet delivered, as the server last said.",
            [(f'{{function="{name}"}}', function.info.get("num_pending", 0)) for name, _, function in each],
        )  # fmt: skip
        family(
            "jetrunner_rate", "gauge", "Messages settled a second, over ten seconds.",
            [(f'{{function="{name}"}}', stats.rate(now)) for name, stats, _ in each],
        )  # fmt: skip
        name = "jetrunner_duration_seconds"
        lines.extend((f"# HELP {name} Time in the handler.", f"# TYPE {name} histogram"))
        for function, stats, _ in each:
            total = 0
            for bucket, count in enumerate(stats.duration.buckets):
                total += count
                if count:
                    lines.append(
                        f'{name}_bucket{{function="{function}",le="{lower(bucket + 1) / 1e6:g}"}} {total}'
                    )
            lines.append(f'{name}_bucket{{function="{function}",le="+Inf"}} {total}')
            lines.append(f'{name}_sum{{function="{function}"}} {stats.duration.total_us / 1e6!r}')
            lines.append(f'{name}_count{{function="{function}"}} {total}')
        return "\n".join(lines) + "\n"
