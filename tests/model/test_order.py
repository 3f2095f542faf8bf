"""A model of one ordered shard: a server that loses deliveries and acks, owners that die, come back and take over."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from runner.core.ordering import Ordering


class Consumer:
    """The durable of one shard, as the server keeps it."""

    def __init__(self) -> None:
        self.stored: dict[int, str] = {}  # sequence → key
        self.fresh: deque[int] = deque()  # stored, never delivered
        self.again: deque[int] = deque()  # to deliver again, before anything fresh
        self.pending: set[int] = set()
        self.delivered = 0
        self.deliveries = 0  # the consumer's own sequence

    @property
    def floor(self) -> int:
        return min(self.pending) - 1 if self.pending else self.delivered

    def store(self, key: str, skipped: int) -> None:
        sequence = max(self.stored, default=0) + 1 + skipped  # what is skipped belongs to other shards
        self.stored[sequence] = key
        self.fresh.append(sequence)

    def ack(self, sequence: int) -> None:
        self.pending.discard(sequence)

    def nak(self, sequence: int) -> None:
        if sequence in self.pending and sequence not in self.again:
            self.again.append(sequence)

    def deliver(self) -> tuple[int, int] | None:
        """The consumer's sequence and the stream's, of the next message."""
        while self.again:
            if (sequence := self.again.popleft()) in self.pending:
                break
        else:
            if not self.fresh:
                return None
            sequence = self.delivered = self.fresh.popleft()
            self.pending.add(sequence)
        self.deliveries += 1
        return self.deliveries, sequence


class Figures(NamedTuple):
    """The consumer's info, as it was at some moment."""

    floor: int
    delivered: int
    deliveries: int
    pending: int


class OrderedShard(RuleBasedStateMachine):
    """The owner's ordering between the server's deliveries and handlers that end whenever they like."""

    def __init__(self) -> None:
        super().__init__()
        self.server = Consumer()
        self.wire: deque[tuple[int, int]] = deque()
        self.acks: list[int] = []  # on their way
        self.ordering = Ordering()
        self.owned = False
        self.asked: Figures | None = None  # the answer of the server, on its way
        self.seen = 0  # the consumer's sequence that came last
        self.running: set[int] = set()
        self.leftover: set[int] = set()  # running since before the shard was another's
        self.settled: set[int] = set()  # by this owner, since it owns the shard
        self.elsewhere: set[int] = set()  # settled by other owners, on record, their acks lost
        self.uncommitted: set[int] = set()  # settled by this owner, and their lanes are not free yet
        self.committing: list[int] = []  # on their way into the record
        self.missing = range(0)  # to be asked for
        self.prompt = True
        """Whether it is asked for at once; else other things happen in between."""
        self.violations: list[str] = []
        self.take_over()

    # What the world does.

    @rule(key=st.sampled_from("abc"), skipped=st.integers(0, 2))
    def a_message_is_stored(self, key: str, skipped: int) -> None:
        self.server.store(key, skipped)

    @rule(keys=st.text("abc", min_size=1, max_size=6))
    def messages_are_stored_and_come(self, keys: str) -> None:
        for key in keys:
            self.server.store(key, 0)
        self.the_server_delivers(len(keys))
        self.messages_arrive(len(self.wire))

    @precondition(lambda self: self.owned)
    @rule(keys=st.text("ab", min_size=1, max_size=4), early=st.booleans())
    def a_delivery_is_lost_while_others_come(self, keys: str, *, early: bool) -> None:
        """More come between the server's answer and what the owner makes of it."""
        self.server.store("a", 0)
        self.a_delivery_is_lost()
        for key in keys:
            self.server.store(key, 0)
        self.the_server_delivers(1)
        self.messages_arrive(len(self.wire))
        if early:
            self.the_server_delivers(len(keys))
        if self.asked:
            self.the_answer_comes()

    @rule(count=st.integers(1, 5))
    def the_server_delivers(self, count: int) -> None:
        for _ in range(count if self.owned else 0):
            if sent := self.server.deliver():
                self.wire.append(sent)

    @rule()
    def a_delivery_is_lost(self) -> None:
        """On the wire, or to a pull that a dead owner left behind."""
        self.server.deliver()

    @precondition(lambda self: self.server.pending)
    @rule(data=st.data())
    def an_ack_wait_passes(self, data: st.DataObject) -> None:
        self.server.nak(data.draw(st.sampled_from(sorted(self.server.pending))))
        if data.draw(st.booleans()):
            self.the_server_delivers(1)
            self.messages_arrive(len(self.wire))

    @rule()
    def acks_arrive(self) -> None:
        for sequence in self.acks:
            self.server.ack(sequence)
        self.acks = []

    # What the owner does.

    @rule(count=st.integers(1, 5))
    def messages_arrive(self, count: int) -> None:
        for _ in range(min(count, len(self.wire))):
            self.arrives()

    def arrives(self) -> None:
        number, sequence = self.wire.popleft()
        if not self.owned:
            assert self.ordering.arrive(sequence, self.server.stored[sequence]) == ()
            return
        if number != self.seen + 1:
            self.ordering.hold()  # before it arrives: one that came before it may be missing
            self.asked = self.figures()
        self.seen = number
        self.start(self.ordering.arrive(sequence, self.server.stored[sequence]))
        if self.ordering.settled(sequence):
            self.acks.append(sequence)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def a_handler_ends(self, data: st.DataObject) -> None:
        self.end(data.draw(st.sampled_from(sorted(self.running))))

    @precondition(lambda self: len(self.running) > 1)
    @rule(data=st.data())
    def settlements_come_together(self, data: st.DataObject) -> None:
        candidates = sorted(self.running)
        ended = data.draw(st.lists(st.sampled_from(candidates), min_size=2, unique=True))
        for sequence in ended:
            self.end(sequence)
        self.commit()

    @precondition(lambda self: self.leftover)
    @rule(data=st.data())
    def a_handler_of_an_earlier_tenure_ends(self, data: st.DataObject) -> None:
        self.outlast(data.draw(st.sampled_from(sorted(self.leftover))))

    @precondition(lambda self: self.ordering.uncommitted)
    @rule(most=st.integers(1, 3))
    def settlements_are_on_their_way_into_the_record(self, most: int) -> None:
        if not self.committing:
            self.committing = self.ordering.take(most)

    @precondition(lambda self: self.committing)
    @rule(stored=st.booleans())
    def they_are_on_record_or_not(self, *, stored: bool) -> None:
        """The answer may come when the shard was lost, and taken over again, meanwhile."""
        taken, self.committing = self.committing, []
        if not stored:
            self.ordering.put_back(taken)
            return
        self.start(tuple(self.ordering.commit(taken)), taken)

    def commit(self) -> None:
        """Everything that is settled goes on record."""
        if self.committing:
            self.they_are_on_record_or_not(stored=True)
        taken = self.ordering.take(1_000)
        self.start(tuple(self.ordering.commit(taken)), taken)

    def end(self, sequence: int) -> None:
        self.running.remove(sequence)
        self.settled.add(sequence)
        self.acks.append(sequence)
        self.uncommitted.add(sequence)
        waits = self.ordering.waiting(self.server.stored[sequence]) > 0
        assert self.ordering.settle(sequence) == waits

    def outlast(self, sequence: int) -> None:
        self.leftover.remove(sequence)
        self.start(self.ordering.outlasted(sequence, self.server.stored[sequence]))

    @precondition(lambda self: self.owned)
    @rule()
    def it_asks_the_server(self) -> None:
        self.asked = self.figures()

    @precondition(lambda self: self.owned and self.asked)
    @rule()
    def the_answer_comes(self) -> None:
        assert self.asked is not None
        recovery = self.ordering.takeover(self.asked.floor, self.asked.delivered, self.asked.pending)
        if not self.wire:
            # None of those that the answer tells of is still on its way, so whatever came after them is next.
            self.seen = max(self.seen, self.asked.deliveries)
        self.asked = None
        self.missing = recovery.nak
        if self.prompt:
            self.it_asks_for_some_of_what_is_missing(len(recovery.nak))
        for sequence in recovery.reack:
            self.server.ack(sequence)
        self.ordering.settle_again(recovery.reack)
        self.start(recovery.start)

    @precondition(lambda self: self.owned and self.missing)
    @rule(count=st.integers(1, 5))
    def it_asks_for_some_of_what_is_missing(self, count: int) -> None:
        for sequence in self.ordering.missing(self.missing[:count]):
            self.server.nak(sequence)
        self.missing = self.missing[count:]

    @rule(prompt=st.booleans())
    def it_has_much_to_ask_for(self, *, prompt: bool) -> None:
        self.prompt = prompt

    @precondition(lambda self: self.owned)
    @rule()
    def the_connection_is_cut_and_made_anew(self) -> None:
        self.ordering.hold()
        self.lose_what_is_on_its_way()
        self.take_over()

    @rule(late=st.booleans())
    def the_owner_dies_and_another_takes_over(self, *, late: bool) -> None:
        landing = self.acks if late else []
        self.ordering = Ordering()
        self.running, self.leftover, self.settled, self.uncommitted = set(), set(), set(), set()
        self.committing = []
        self.lose_what_is_on_its_way()
        self.take_over(landing)

    @precondition(lambda self: self.owned)
    @rule(cut=st.booleans(), data=st.data())
    def the_claim_is_lost(self, *, cut: bool, data: st.DataObject) -> None:
        """Some that have a lane have not begun, nor has anything that waits for one."""
        self.lose(data.draw(st.sets(st.sampled_from(sorted(self.running)))) if self.running else set())
        if cut:
            self.lose_what_is_on_its_way()

    @precondition(lambda self: self.owned and self.running)
    @rule(settled=st.integers(0, 2), twice=st.booleans())
    def it_is_away_for_a_moment_and_its_handlers_do_not_end(self, settled: int, *, twice: bool) -> None:
        self.lose(set(self.running))
        if settled:
            self.somebody_else_settles_on_record_and_its_acks_are_lost(settled)
        self.the_claim_comes_back()
        self.commit()
        if twice:
            self.the_server_delivers(5)
            self.messages_arrive(5)
            self.lose(set())
            self.the_claim_comes_back()

    def lose(self, begun: set[int]) -> None:
        self.ordering.release(self.running - begun)
        self.owned = False
        self.leftover |= begun
        self.running, self.settled, self.uncommitted = set(), set(), set()
        self.acks, self.asked, self.missing = [], None, range(0)

    @precondition(lambda self: not self.owned)
    @rule(count=st.integers(0, 5))
    def somebody_else_has_the_shard(self, count: int) -> None:
        for _ in range(count):
            self.server.deliver()
        for sequence in sorted(self.server.pending)[:count]:
            self.server.ack(sequence)

    @precondition(lambda self: not self.owned)
    @rule(count=st.integers(1, 3))
    def somebody_else_settles_on_record_and_its_acks_are_lost(self, count: int) -> None:
        for _ in range(count):
            self.server.deliver()
        self.elsewhere |= set(sorted(self.server.pending - self.elsewhere)[:count])

    @precondition(lambda self: not self.owned)
    @rule()
    def the_claim_comes_back(self) -> None:
        self.wire.clear()  # what a new pull brings, it brings on a new inbox
        self.take_over()

    def lose_what_is_on_its_way(self) -> None:
        self.wire.clear()
        self.acks, self.asked, self.missing = [], None, range(0)

    def take_over(self, landing: list[int] | None = None) -> None:
        """`landing` are a dead owner's acks: they come after the info was read."""
        self.owned = True
        self.ordering.know(self.elsewhere)
        self.settled |= self.elsewhere
        self.asked = self.figures()
        for sequence in landing or ():
            self.server.ack(sequence)
        self.the_answer_comes()

    def figures(self) -> Figures:
        server = self.server
        return Figures(server.floor, server.delivered, server.deliveries, len(server.pending))

    def start(self, sequences: tuple[int, ...], committed: Iterable[int] = ()) -> None:
        if self.owned:
            self.uncommitted.difference_update(committed)
        for sequence in sequences:
            key = self.server.stored[sequence]
            for earlier in (
                each for each, other in self.server.stored.items() if other == key and each < sequence
            ):
                acked = earlier <= self.server.delivered and earlier not in self.server.pending
                if not acked and earlier not in self.settled:
                    self.violations.append(f"{sequence} started before {earlier} of its key was settled")
                if earlier in self.uncommitted:
                    self.violations.append(f"{sequence} started before {earlier} of its key was committed")
            if sequence in self.settled or sequence not in self.server.pending:
                self.violations.append(f"{sequence} ran again after it was settled")
            if self.ordering.barrier:
                self.violations.append(f"{sequence} started behind the barrier")
            self.running.add(sequence)
            if self.beside(sequence):
                self.violations.append(f"{sequence} started beside another of its key")

    def beside(self, sequence: int) -> bool:
        """Whether another message of its key runs, or is not committed."""
        here = {*self.running, *self.leftover, *self.uncommitted} - {sequence}
        return self.server.stored[sequence] in {self.server.stored[each] for each in here}

    # What must hold.

    @invariant()
    def a_keys_message_never_starts_before_its_predecessor_is_settled(self) -> None:
        assert not self.violations

    @invariant()
    def it_knows_how_many_run(self) -> None:
        assert self.ordering.running == len(self.running) + len(self.leftover) + len(self.uncommitted)
        assert self.ordering.holding >= 0

    @invariant()
    def a_free_lane_has_nobody_waiting(self) -> None:
        assert self.ordering.barrier or self.ordering.running or not self.ordering.holding

    def teardown(self) -> None:
        """No message is forgotten: in bounded time, all that was stored is settled and acked."""
        self.prompt = True
        if not self.owned:
            self.the_claim_comes_back()
        for _ in range(4 * len(self.server.stored) + 8):
            while sent := self.server.deliver():
                self.wire.append(sent)
            while self.wire:
                self.arrives()
            for sequence in sorted(self.running):
                self.end(sequence)
            self.commit()
            for sequence in sorted(self.leftover):
                self.outlast(sequence)
            self.acks_arrive()
            if self.ordering.barrier:
                self.take_over()
            for sequence in sorted(self.server.pending - self.running):
                self.server.nak(sequence)
        assert not self.violations
        assert not self.server.pending
        assert not self.server.fresh
        assert self.ordering.holding == self.ordering.running == 0


TestOrderedShard = OrderedShard.TestCase
TestOrderedShard.settings = settings(max_examples=100)
