"""How busy other processes kept the machine while something was measured."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

from benchmarks.server import Server


class Elsewhere:
    """Counts from when it is made."""

    def __init__(self, server: Server) -> None:
        self._server = server
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
        return busy - sum(one.ru_utime + one.ru_stime for one in own) - self._server.cpu
