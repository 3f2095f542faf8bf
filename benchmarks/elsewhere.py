"""How busy other processes kept the machine while something was measured."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.meter import used_by
from benchmarks.server import Server


class Elsewhere:
    """Counts from when it is made."""

    def __init__(self, server: Server | None, own: Sequence[int] = ()) -> None:
        """`own` are the processes that are measured, and run on when one measurement ends; `server` is None where each ends with its measurement."""
        self._server = server
        self._own = own
        self._began = time.monotonic()
        self._others = self._cpu()

    def cores(self) -> float:
        """Cores that others used on average, the host's share of a virtual machine included; 0.0 where there is no /proc."""
        return round(max(0.0, (self._cpu() - self._others) / (time.monotonic() - self._began)), 2)

    def _cpu(self) -> float:
        """Seconds that the machine was busy with what is neither this process, a child that has ended, nor the server."""
        try:
            fields = Path("/proc/stat").read_text().partition("\n")[0].split()[1:9]
        except OSError:
            return 0.0
        user, nice, system, _idle, _waits, irq, soft, stolen = map(int, fields)
        busy = (user + nice + system + irq + soft + stolen) / os.sysconf("SC_CLK_TCK")
        own = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        running = sum(used_by(pid) for pid in self._own)
        return (
            busy
            - sum(one.ru_utime + one.ru_stime for one in own)
            - running
            - (self._server.cpu if self._server else 0.0)
        )
