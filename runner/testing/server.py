"""A nats-server of a test's own: on a free port, with an empty store that is deleted in the end."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runner.errors import JetrunnerError
from runner.process.natsserver import GUARD, binary, url_in, why_not

START_SECONDS = 20.0
LOOK_SECONDS = 0.005


@contextmanager
def server() -> Iterator[str]:
    """Run the server for the time of the block; yields its URL. It ends with this process, however that ends. Raises JetrunnerError."""
    with tempfile.TemporaryDirectory(prefix="jetrunner-", ignore_cleanup_errors=True) as folder:
        place = Path(folder)
        process = subprocess.Popen(  # noqa: S603  our own server
            [
                "/bin/sh", "-c", GUARD, "nats-server",
                binary(), "-js", "-a", "127.0.0.1", "-p", "-1", "-sd", str(place / "store"),
                "--ports_file_dir", folder, "-l", str(place / "log"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        assert process.stdin is not None
        try:
            yield _url(process, place)
        finally:
            process.stdin.close()
            process.wait()


def _url(process: subprocess.Popen[bytes], place: Path) -> str:
    give_up = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < give_up:
        if url := url_in(place):
            return url
        time.sleep(LOOK_SECONDS)
    raise JetrunnerError(why_not(place / "log"))
