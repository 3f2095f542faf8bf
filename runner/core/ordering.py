"""Strict order inside one shard: a lane for each key, and a barrier between old messages and new ones.

Rule 1: a key's messages run one at a time, by stream sequence. A lane is free again when its message is settled and the settlement
        is committed. Before that, a crash may lose the settlement.
Rule 2: behind the barrier nothing starts. It stands from `hold` or `takeover` until every old message that the server
    holds pending is here; then all held messages start by sequence, the old ones before the new.
Rule 3: a message held here is never asked for again. One that was settled here never runs again if it comes: its ack was lost.
Rule 4: a message that runs when the shard is released keeps its lane until it ends, though the shard is another's.
Rule 5: messages of one key may run together, as a batch: the first holds their lane, which is free once all are committed.

The caller counts consumer sequences. At a gap a message was lost on its way, so the caller calls `hold`, then `arrive`, asks the
server, and calls `takeover`. It does the same after a disconnect. If a late process of the previous owner acks a message
that is held here, the server counts one fewer than `takeover` knows. If another message is lost at that moment, a later one might
overtake it. The two cannot be distinguished, but both have to happen at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Sequence
from itertools import islice

from msgspec import Struct

from runner.core.batchmembers import BatchMembers
from runner.core.committed import Committed

_NOTHING: tuple[int, ...] = ()
_CLOSED = 1 << 64
"""Above every stream sequence."""
_LOWEST = -_CLOSED


class Recovery(Struct, frozen=True):
    """What a `takeover` asks for; sequences ascend."""

    nak: range
    """The server has to deliver again what is `missing` of these; few may be pending, and it ignores the others."""
    reack: tuple[int, ...]
    """Messages to ack again: settled here, but the ack may be lost. Call `takeover` with fresh figures afterwards."""
    start: tuple[int, ...]
    """Messages that may start now: no old one was missing, so the barrier opened at once."""


class Ordering:
    """The order of one shard of one function in this process; nothing starts before the first `takeover`.

    `remember` is how many of the latest settled sequences are remembered, at least.
    """

    __slots__ = (
        "_awaited", "_batches", "_blocking", "_committed", "_committing", "_delivered", "_ended", "_held", "_highest",
        "_lanes", "_leftover", "_owned", "_room", "_uncommitted", "top",
    )  # fmt: skip

    def __init__(self, remember: int = 16_384) -> None:
        self._held: dict[int, Hashable] = {}
        # By key, the message that runs. If others of the key wait for it: a deque of all, with that message at the head.
        self._lanes: dict[Hashable, int | deque[int]] = {}
        self._blocking: set[int] = set()  # messages that run while others of their key wait
        self._batches = BatchMembers()
        # By key, messages that run since before a release. The same message may be here anew, and wait for its first run.
        self._leftover: dict[Hashable, int] = {}
        self._room: list[int] = []  # behind the barrier, unsorted
        self._committed = Committed(remember)
        self._ended: tuple[int, list[int], set[int]] = 0, [], set()
        self._uncommitted: list[int] = []
        self._committing: list[int] = []  # on their way
        self._owned = False
        self._awaited = 0
        self._delivered = -1
        self._highest = 0
        self.top = _CLOSED
        """A message above this sequence is new, and finds the barrier open; while the barrier stands, no sequence is above."""

    @property
    def running(self) -> int:
        """How many messages have started and are not committed; a batch of one key counts as one."""
        return len(self._lanes)

    @property
    def holding(self) -> int:
        """How many messages are here and have not started."""
        return len(self._held) + len(self._leftover) - len(self._lanes) - self._batches.joined

    @property
    def barrier(self) -> bool:
        """True while nothing starts: before a takeover, or until the messages that it awaits have come."""
        return self.top == _CLOSED

    @property
    def awaited(self) -> int:
        """How many old messages have to come before the barrier opens; 0 before a takeover."""
        return self._awaited

    @property
    def uncommitted(self) -> int:
        """How many messages are settled, and not committed yet."""
        return len(self._uncommitted) + len(self._committing)

    def waiting(self, key: Hashable) -> int:
        """How many messages wait in this key's lane behind the one that runs; none while the barrier stands."""
        lane = self._lanes.get(key)
        return len(lane) - 1 if isinstance(lane, deque) else 0

    def following(self, key: Hashable, most: int) -> list[int]:
        """The first messages, at most `most`, that wait in this key's lane; none while the barrier stands."""
        lane = self._lanes.get(key)
        return list(islice(lane, 1, 1 + most)) if isinstance(lane, deque) else []

    def waiting_lanes(self) -> list[Sequence[int]]:
        """The messages that wait in each lane, in order; those behind the barrier are one more lane."""
        lanes = [list(lane)[1:] for lane in self._lanes.values() if isinstance(lane, deque)]
        return [*lanes, sorted(self._room)]

    def heads(self) -> list[int]:
        """The messages here whose turn it is in their lanes; none while the barrier stands."""
        if self.barrier:
            return []
        behind = {each for waiting in self.waiting_lanes() for each in waiting}
        return [sequence for sequence in self._held if sequence not in behind]

    def know(self, sequences: Iterable[int]) -> None:
        """Learn that messages were settled elsewhere, so that they need only be acked. Called before `takeover`."""
        self._highest = max([self._highest, *self._committed.know(sequences)])

    def arrive(self, sequence: int, key: Hashable) -> tuple[int, ...]:
        """Take a delivered message; returns those that may start now, in order. A message that is here already changes nothing.

        When `settled(sequence)`, the caller acks it again. A message that comes while the shard is released is not kept.
        """
        if sequence <= self.top:
            return self._arrive_again_or_old(sequence, key)
        self.top = sequence
        self._held[sequence] = key
        lanes = self._lanes
        if key not in lanes:
            lanes[key] = sequence
            return (sequence,)
        self._wait(sequence, key)
        return _NOTHING

    def join(self, key: Hashable, count: int) -> None:
        """The first `count` messages that wait in this key's lane run together with the one that holds it."""
        holder, waiting = self._lane(key)
        self._batches.join(key, holder, waiting[:count])
        self._put(key, holder, waiting[count:])

    def part(self, key: Hashable, sequences: Sequence[int]) -> tuple[int, ...]:
        """Take messages of a batch that have not run out of it: they wait in their lane again, by sequence.

        If nothing else of the batch is left, the first of them holds the lane and is returned: it has to start.
        """
        holder, waiting = self._lane(key)
        parted, again = sorted(sequences), _NOTHING
        if not self._batches.part(key, parted):
            self._blocking.discard(holder)
            holder = parted.pop(0)
            again = (holder,)
        (self._room if self.barrier else waiting).extend(parted)
        self._put(key, holder, sorted(waiting))
        return again

    def settle(self, sequence: int) -> bool:
        """A message that ran is settled; returns whether others wait in its lane, which is free once that is committed."""
        self._uncommitted.append(sequence)
        if not self._batches:
            return sequence in self._blocking
        return isinstance(self._lanes.get(self._held.get(sequence)), deque)

    def settle_again(self, sequences: Iterable[int]) -> None:
        """Messages that were committed before are to be committed once more, because they may have been forgotten."""
        self._uncommitted += sequences

    def take(self, most: int) -> list[int]:
        """Take the messages to commit now, the oldest first, until `commit` or `put_back`."""
        assert not self._committing, "one commit at a time: its lanes would be forgotten"
        taken = self._committing = self._uncommitted[:most]
        del self._uncommitted[:most]
        return taken

    def put_back(self, taken: list[int]) -> None:
        """The messages taken were not committed; nothing happens when the shard was released meanwhile."""
        if taken is self._committing:
            self._uncommitted[:0], self._committing = taken, []

    def commit(self, taken: list[int]) -> list[int]:
        """The messages taken are committed; returns all that may start then, in order for each key.

        Nothing happens when the shard was released meanwhile. A message that a `release` left running keeps its lane until
        `outlasted`, whatever became of it elsewhere.
        """
        ready: list[int] = []
        if taken is not self._committing:
            return ready
        self._committing = []
        leave, free, batches = self._held.pop, self._lanes.pop, self._batches
        again: set[int] = set()
        for sequence in taken:
            try:
                key = leave(sequence)
            except KeyError:  # it was committed before
                again.add(sequence)
                continue
            if batches and batches.leave(key, sequence):
                continue
            lane = free(key)
            if isinstance(lane, deque):
                ready += self._begin_next(key, lane)
        self._committed.add([each for each in taken if each not in again] if again else taken)
        return ready

    def leave(self, sequence: int) -> tuple[int, ...]:
        """Free the lane of an entry that never came from the stream, so that there is nothing to commit."""
        key = self._held.pop(sequence, None)
        if key is None:
            return _NOTHING
        lane = self._lanes.get(key)
        if lane == sequence or (isinstance(lane, deque) and lane[0] == sequence):
            return self._next(key)
        if isinstance(lane, deque) and sequence in lane:
            holder, *waiting = [each for each in lane if each != sequence]
            self._put(key, holder, waiting)
        else:
            self._room.remove(sequence)
        return _NOTHING

    def outlasted(self, sequence: int, key: Hashable) -> tuple[int, ...]:
        """Free the lane of a message that a `release` left running, and that has ended; it does not count as settled."""
        if self._leftover.get(key) != sequence:
            return _NOTHING
        del self._leftover[key]
        return self._next(key)

    def settled(self, sequence: int) -> bool:
        """Tell whether a message was settled here lately, so that it need only be acked."""
        return sequence in self._committed.all() or sequence in self._uncommitted_now()

    @property
    def settled_any(self) -> bool:
        """Whether any message was settled here lately."""
        return bool(self._committed or self.uncommitted)

    def done(self, floor: int, delivered: int) -> tuple[int, ...]:
        """The messages above `floor` and up to `delivered` that were settled here lately, ascending."""
        known = self._committed.all() | self._uncommitted_now()
        return tuple(sorted(each for each in known if floor < each <= delivered))

    def hold(self) -> None:
        """The shard is ours: start nothing until the next `takeover`. Arriving messages are kept, running ones may end."""
        self._owned = True
        self._close()
        self._awaited = 0
        self._delivered = -1  # nothing counts as old before the server says what is

    def takeover(self, floor: int, delivered: int, pending: int) -> Recovery:
        """Begin, or begin anew after a reconnect or a lost message, with the figures of the consumer's info at this moment.

        `floor` and `delivered` are stream sequences, `pending` the deliveries not acked. When the awaited messages do not
        come in time, call it again with fresh figures.
        """
        self._close()
        self._owned = True
        self._delivered = delivered
        ended = self._uncommitted_now()
        here = sum(floor < each <= delivered and each not in ended for each in self._held)
        self._awaited = max(0, pending - here)
        reack = self.done(floor, delivered)
        if not self._awaited:
            return Recovery(range(0), reack, self._open())
        return Recovery(range(floor + 1, delivered + 1), reack, _NOTHING)

    def missing(self, sequences: Iterable[int]) -> list[int]:
        """The sequences that are not here and were not settled here: their deliveries went to a predecessor or were lost."""
        held, known, ended = self._held, self._committed.all(), self._uncommitted_now()
        return [each for each in sequences if each not in held and each not in known and each not in ended]

    def release(self, free: Iterable[int] = ()) -> None:
        """Forget all but the running messages: the shard is not ours any more. `free`: those that have a lane but have not begun."""
        self.cut(_LOWEST, free)
        self._owned = False
        self._highest = 0

    def cut(self, first: int, free: Iterable[int] = ()) -> None:
        """Forget all from this sequence on but running messages, and all settled ones; nothing starts until the next `takeover`."""
        owned = self._owned
        self.hold()
        self._owned = owned
        waiting, ended = set(self._room), {*self._uncommitted, *self._committing}
        unused = {*free, *ended}
        unheld: list[Hashable] = []
        for sequence in [each for each in self._held if each >= first or each in ended]:
            key = self._held.pop(sequence)
            if sequence not in waiting:
                self._batches.leave(key, sequence)
                if sequence in unused:
                    unheld.append(key)
                else:
                    self._leftover[key] = sequence  # any message of a batch: all end at once
        for key in unheld:
            if key not in self._leftover and key not in self._batches:
                self._lanes.pop(key, None)
        self._room = [each for each in self._room if each < first]
        self._committed.clear()
        self._uncommitted, self._committing = [], []
        self._highest = min(self._highest, first - 1)

    def _arrive_again_or_old(self, sequence: int, key: Hashable) -> tuple[int, ...]:
        if not self._owned or sequence in self._held or self.settled(sequence):
            return _NOTHING
        self._held[sequence] = key
        if not self.barrier:
            return self._arrive_late(sequence, key)
        self._room.append(sequence)
        self._highest = max(self._highest, sequence)
        if sequence > self._delivered:
            return _NOTHING
        self._awaited -= 1
        return _NOTHING if self._awaited else self._open()

    def _arrive_late(self, sequence: int, key: Hashable) -> tuple[int, ...]:
        """An older message comes that nobody knew was missing: it takes its place among those of its key that wait."""
        if key not in self._lanes:
            self._lanes[key] = sequence
            return (sequence,)
        holder, waiting = self._lane(key)
        self._put(key, holder, sorted([*waiting, sequence]))
        return _NOTHING

    def _wait(self, sequence: int, key: Hashable) -> None:
        """The message waits in its key's lane, behind all others there."""
        lane = self._lanes[key]
        if isinstance(lane, deque):
            lane.append(sequence)
        else:
            self._lanes[key] = deque((lane, sequence))
            self._blocking.add(lane)

    def _uncommitted_now(self) -> set[int]:
        """The messages settled and not committed. The set is kept while nothing changes: many may ask in one turn of the loop."""
        count, committing, ended = self._ended
        if count != len(self._uncommitted) or committing is not self._committing:
            ended = {*self._uncommitted, *self._committing}
            self._ended = len(self._uncommitted), self._committing, ended
        return ended

    def _next(self, key: Hashable) -> tuple[int, ...]:
        lane = self._lanes.pop(key)
        return self._begin_next(key, lane) if isinstance(lane, deque) else _NOTHING

    def _lane(self, key: Hashable) -> tuple[int, list[int]]:
        """The message that holds a key's lane, and those that wait in it."""
        lane = self._lanes[key]
        return (lane[0], list(lane)[1:]) if isinstance(lane, deque) else (lane, [])

    def _put(self, key: Hashable, holder: int, waiting: Sequence[int]) -> None:
        """Set a key's lane: `holder` holds it, the others wait in it."""
        if waiting:
            self._lanes[key] = deque((holder, *waiting))
            self._blocking.add(holder)
        else:
            self._lanes[key] = holder
            self._blocking.discard(holder)

    def _begin_next(self, key: Hashable, lane: deque[int]) -> tuple[int, ...]:
        """The first message has left a lane; returns the next one, which may start."""
        self._blocking.discard(lane.popleft())
        following = lane[0]
        if len(lane) > 1:
            self._lanes[key] = lane
            self._blocking.add(following)
        else:
            self._lanes[key] = following
        return (following,)

    def _close(self) -> None:
        if self.barrier:
            return
        self._highest, self.top = self.top, _CLOSED
        for key, lane in self._lanes.items():
            if isinstance(lane, deque):
                running, *waiting = lane
                self._room += waiting
                self._lanes[key] = running
        self._blocking.clear()

    def _open(self) -> tuple[int, ...]:
        self.top = max(self._highest, self._delivered)
        started: list[int] = []
        lanes = self._lanes
        for sequence in sorted(self._room):
            key = self._held[sequence]
            if key in lanes:
                self._wait(sequence, key)
            else:
                lanes[key] = sequence
                started.append(sequence)
        self._room = []
        return tuple(started)
