"""Standard output that Python does not buffer (`python -u`, PYTHONUNBUFFERED), as most containers have it.

Python's text layer then gives each text to one `write` of the operating system, and does not check how much of it was
taken. A write of more than a pipe holds (64 KiB) ends early when the process is stopped and continued, by SIGSTOP, a
debugger or a frozen container: the rest of the text would be lost, and the command would end with 0.
"""

from __future__ import annotations

import io
import select
import sys


class WholeWrites(io.FileIO):
    """A file whose `write` returns once the last byte was taken."""

    def write(self, data: bytes) -> int:  # type: ignore[override]  # bytes-like in typeshed's private name
        """Write all of `data`, in as many writes as it takes."""
        left = memoryview(data).cast("B")
        size = len(left)
        while left:
            taken = super().write(left)
            if taken is None:  # a pipe that our parent made non-blocking is full
                select.select((), (self.fileno(),), ())
            else:
                left = left[taken:]
        return size


def write_whole() -> None:
    """Have standard output and standard error write each text whole, if they are files that Python does not buffer."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper) and isinstance(stream.buffer, io.FileIO):
            whole = WholeWrites(stream.fileno(), "w", closefd=False)
            text = io.TextIOWrapper(
                whole,  # as Python's own unbuffered streams: a raw file, written through
                encoding=stream.encoding,
                errors=stream.errors,
                write_through=True,
            )
            setattr(sys, name, text)
