"""How many bytes may be in flight in one process: asked for or delivered, and not settled.

Rule 1: a quarter is parted among all slots: what a pull asks for within that needs no look at the others, so small
        messages cost nothing, and an idle pull holds no more than its part.
Rule 2: a quarter is for what waits behind other messages of its key, where order is kept.
Rule 3: the rest is for pulls whose messages are larger than their part. Each may have four fifths of what the others
        leave: one alone gets most of it, several the same, and some stays free for the next one.
Rule 4: what is on its way stays below half of what a server keeps for a slow client (64 MiB unless it says otherwise).
"""

from __future__ import annotations

from msgspec import Struct

DEFAULT = 64 << 20
MOST_ON_THE_WAY = 32 << 20
MOST_PARTED = 16 << 20
OVERHEAD = 512
"""What the server adds to body and headers: subject and reply."""


class Budget(Struct, frozen=True):
    """The parts of one process's bytes."""

    parted: int
    """Among all slots."""
    waiting: int
    """For what waits behind other messages of its key."""
    shared: int
    """For large messages."""
    on_the_way: int
    """Of large messages that are asked for and not here."""

    @property
    def largest(self) -> int:
        """Bytes of the largest message that fits where nothing else is in flight."""
        return min(self.shared * 4 // 5, self.on_the_way)

    def part(self, slots: int) -> int:
        """Bytes of each of so many slots."""
        return max(OVERHEAD, self.parted // max(1, slots))

    def fair(self, others: int, on_the_way: int) -> int:
        """Bytes that a pull may have, where the others have so many, and so many of these are on their way."""
        return max(0, min((self.shared - others) * 4 // 5, self.on_the_way - on_the_way))


def parts(total: int) -> Budget:
    """Part a process's budget of so many bytes."""
    parted = min(total // 4, MOST_PARTED)
    waiting = total // 4
    return Budget(parted, waiting, total - parted - waiting, min(MOST_ON_THE_WAY, total // 2))


def learned(size: int, arrived: int) -> int:
    """What a message of a pull is taken to have: larger ones count at once, smaller ones by and by."""
    return arrived if arrived >= size else size - (size - arrived) // 2
