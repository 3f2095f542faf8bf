"""What handlers of a test project did, written so that it survives SIGKILL; copied into the project as `journal.py`.

In a function:  `from journal import note`  …  `note("charge", id=order.id, attempt=ctx.attempt)`
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

FILE = Path(__file__).with_name("journal.jsonl")


def note(what: str, **facts: object) -> None:
    """Append one line: `what` happened, when, in which process."""
    line = json.dumps({"what": what, "pid": os.getpid(), "at": time.time(), **facts}) + "\n"
    with FILE.open("ab", buffering=0) as file:  # O_APPEND and one write: lines of many processes never mix
        file.write(line.encode())
