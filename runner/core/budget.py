"""How many bytes may be in flight in one process: asked for or delivered, and not settled.

Rule 1: a quarter is divided among all slots. Within its part a pull asks without regard to other pulls, so small messages need no
        coordination. An idle pull holds no more than its part.
Rule 2: a quarter is for messages that wait behind others of their key, where order is kept.
Rule 3: the rest is for pulls whose messages are larger than their part. Each may have four fifths of what the others
        leave: one pull alone gets most of the rest, several get equal parts, and some stays free for the next one.
Rule 4: the bytes asked for and not arrived stay below half of what a server buffers for a slow client (64 MiB by default).
"""

from __future__ import annotations

from msgspec import Struct

DEFAULT = 64 << 20
MOST_ON_THE_WAY = 32 << 20
MOST_PARTED = 16 << 20
OVERHEAD = 512
"""Bytes that the server adds to body and headers, for subject and reply."""


class Budget(Struct, frozen=True):
    """How the bytes of one process are divided."""

    parted: int
    """Bytes that are divided among all slots."""
    waiting: int
    """Bytes for messages that wait behind others of their key."""
    shared: int
    """Bytes for large messages."""
    on_the_way: int
    """Most bytes of large messages that are asked for and have not arrived."""

    @property
    def largest(self) -> int:
        """Bytes of the largest message that fits while nothing else is in flight."""
        return min(self.shared * 4 // 5, self.on_the_way)

    def part(self, slots: int) -> int:
        """Bytes of each of `slots` slots."""
        return max(OVERHEAD, self.parted // max(1, slots))

    def fair(self, others: int, on_the_way: int) -> int:
        """Bytes that a pull may have while other pulls have `others`, of which `on_the_way` have not arrived."""
        return max(0, min((self.shared - others) * 4 // 5, self.on_the_way - on_the_way))


def parts(total: int) -> Budget:
    """Divide a process's budget of `total` bytes."""
    parted = min(total // 4, MOST_PARTED)
    waiting = total // 4
    return Budget(parted, waiting, total - parted - waiting, min(MOST_ON_THE_WAY, total // 2))


def learned(size: int, arrived: int) -> int:
    """Bytes that a pull expects of its next message: a larger message raises them at once, a smaller one halves the difference."""
    return arrived if arrived >= size else size - (size - arrived) // 2
