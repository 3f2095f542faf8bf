"""A real nats-server of its own: file storage in a temporary folder, every option at its default."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import nats

from benchmarks.workload import order, usual

CHUNK = 1000
"""Messages on their way to the server while a stream is filled."""
CHUNK_BYTES = 16 << 20
"""The most of their bytes."""


class Server:
    """Answers on `url` while the `with` block of `running` lasts."""

    def __init__(self, port: int, store: str, pid: int) -> None:
        self.port = port
        self.url = f"nats://127.0.0.1:{port}"
        self.store = store
        self._pid = pid

    @property
    def cpu(self) -> float:
        """Seconds of CPU that nats-server has used; 0.0 where there is no /proc."""
        try:
            fields = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def api(self, subject: str, request: object = None) -> dict[str, Any]:
        """Ask the JetStream API; RuntimeError with the server's words when it refuses."""
        return self.each([subject], request)[0]

    def each(self, subjects: list[str], request: object = None) -> list[dict[str, Any]]:
        """Ask the same of several, one after the other on one connection."""
        return asyncio.run(self._each(subjects, request))

    async def _each(self, subjects: list[str], request: object) -> list[dict[str, Any]]:
        body = msgspec.json.encode(request) if request is not None else b""
        found: list[dict[str, Any]] = []
        client = await nats.connect(self.url)
        try:
            for subject in subjects:
                answer = await client.request(f"$JS.API.{subject}", body, timeout=30)
                found.append(msgspec.json.decode(answer.data))
                if "error" in found[-1]:
                    raise RuntimeError(f"{subject}: {found[-1]['error']['description']}")
        finally:
            await client.close()
        return found

    def stream(self, name: str, subjects: str, **fields: Any) -> None:
        config = {"name": name, "subjects": [subjects], "storage": "file", **fields}
        self.api(f"STREAM.CREATE.{name}", config)

    def consumer(self, stream: str, name: str, **fields: Any) -> None:
        """A durable for a contender that brings none; the same settings as everyone's."""
        config = {"durable_name": name, "ack_policy": "explicit", "max_ack_pending": -1, **fields}
        self.api(f"CONSUMER.DURABLE.CREATE.{stream}.{name}", {"stream_name": stream, "config": config})

    def fill(self, stream: str, subject: str, total: int, *, keys: int, size: int, headers: bool) -> None:
        """Store `total` orders in a stream, each confirmed, over so many subjects in turn, bare or with usual headers."""
        asyncio.run(self._fill(subject, total, keys, size, headers=headers))
        stored = self.api(f"STREAM.INFO.{stream}")["state"]["messages"]
        assert stored == total, f"{stream} has {stored} messages instead of {total}"

    async def _fill(self, subject: str, total: int, keys: int, size: int, *, headers: bool) -> None:
        client = await nats.connect(self.url)
        js = client.jetstream()
        body = order(size)
        chunk = max(1, min(CHUNK, CHUNK_BYTES // size))
        for start in range(0, total, chunk):
            await asyncio.gather(
                *[
                    await js.publish_async(
                        f"{subject}.c{n % keys}", body, headers=usual(n) if headers else None
                    )
                    for n in range(start, min(start + chunk, total))
                ]
            )
        await client.close()


@contextmanager
def running() -> Iterator[Server]:
    """Start a server and throw it away with its store afterwards."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="jetrunner-bench-") as folder:
        command = [binary(), "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", f"{folder}/store"]
        with (
            Path(folder, "log").open("wb") as log,
            subprocess.Popen(command, stdout=log, stderr=log) as process,
        ):
            try:
                await_port(port, process)
                yield Server(port, folder, process.pid)
            finally:
                process.kill()


def binary() -> str:
    """The nats-server of this environment, else the one on PATH."""
    found = shutil.which("nats-server", path=sysconfig.get_path("scripts")) or shutil.which("nats-server")
    if found is None:
        raise SystemExit("error: nats-server is missing\nhint: install the development dependencies")
    return found


def await_port(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(500):
        if process.poll() is not None:
            raise SystemExit(f"error: nats-server ended with {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise SystemExit("error: nats-server does not answer")
