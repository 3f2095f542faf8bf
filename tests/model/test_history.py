"""A model of one shard whose stream may go back, be put back or be made again, and of the instances that work on it.

What the instances decide is decided by the real functions: whether the stream is the one they know (`judge`), what they
forget then (`Ordering.cut`), where a durable begins that is missing (`begin`).
"""

from __future__ import annotations

from collections import deque
from copy import deepcopy
from typing import NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from runner.core.history import NOTHING, HistoryAnswers, Identity, StreamState, Verdict, begin, judge, void
from runner.core.ordering import Ordering

REMEMBERED = 4
"""Earlier owners whose records are read."""


class Message(NamedTuple):
    """`name` is its own, whatever numbers it shares with others."""

    name: int
    sequence: int
    stored_ns: int
    key: str


class Consumer:
    def __init__(self, start: int) -> None:
        self.delivered = max(0, start - 1)
        self.pending: set[int] = set()
        self.again: deque[int] = deque()
        self.deliveries = 0

    @property
    def floor(self) -> int:
        return min(self.pending) - 1 if self.pending else self.delivered


class Stream:
    """A stream and its durable, as the server has them on disk."""

    def __init__(self, created: int) -> None:
        self.created = str(created)
        self.messages: list[Message] = []
        self.consumer: Consumer | None = None

    @property
    def last(self) -> int:
        return len(self.messages)

    def message(self, sequence: int) -> Message:
        return self.messages[sequence - 1]

    def identity(self, sequence: int) -> Identity:
        return Identity(self.created, sequence, self.message(sequence).stored_ns) if sequence else NOTHING

    def deliver(self) -> tuple[int, Message] | None:
        consumer = self.consumer
        if consumer is None:
            return None
        while consumer.again:
            if (sequence := consumer.again.popleft()) in consumer.pending:
                break
        else:
            if consumer.delivered >= self.last:
                return None
            sequence = consumer.delivered = consumer.delivered + 1
            consumer.pending.add(sequence)
        consumer.deliveries += 1
        return consumer.deliveries, self.message(sequence)

    def reconcile(self) -> None:
        """What nats-server does with a durable that is farther than its stream when it starts."""
        if self.consumer is not None:
            self.consumer.delivered = min(self.consumer.delivered, self.last)
            self.consumer.pending = {each for each in self.consumer.pending if each <= self.last}


class Record(NamedTuple):
    """Settlements, and the newest message that their instance knew."""

    settled: frozenset[int]
    newest: Identity


class Instance:
    """One process that owns the shard."""

    def __init__(self) -> None:
        self.ordering = Ordering()
        self.here: dict[int, Message] = {}
        self.running: set[int] = set()
        self.leftover: dict[int, Message] = {}
        self.known = NOTHING
        self.lost: Identity | None = None
        self.doubted: list[Identity] = []
        self.created = ""
        """When the stream was made that was last found."""
        self.seen = 0
        self.fresh = True
        """Nothing has come on this connection yet."""


class History(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = 1_000
        self.names = 0
        self.streams = 1
        self.stream = Stream(1)
        self.copies: list[Stream] = []
        self.wire: deque[tuple[int, Message]] = deque()
        self.records: list[Record] = []
        """One of each instance that owned the shard, the last one's last."""
        self.floor: tuple[int, Identity] | None = None
        self.began: set[int] = set()
        """Names of messages whose handlers have begun."""
        self.wrong: list[str] = []
        self.me = Instance()
        self.take_over()

    # What the world does.

    @rule(keys=st.text("abc", min_size=1, max_size=5))
    def messages_are_published(self, keys: str) -> None:
        for key in keys:
            self.names += 1
            self.clock += 10
            self.stream.messages.append(Message(self.names, self.stream.last + 1, self.clock, key))

    @rule()
    def a_copy_is_taken(self) -> None:
        self.copies.append(deepcopy(self.stream))

    @precondition(lambda self: self.copies)
    @rule(
        data=st.data(), consumer=st.sampled_from(["older", "newer", "none"]), later=st.text("abc", max_size=9)
    )
    def the_stream_is_put_back(self, data: st.DataObject, consumer: str, later: str) -> None:
        """And more is published before anybody looks. Only copies of what it has been are put back."""
        place = data.draw(st.integers(0, len(self.copies) - 1))
        copy = deepcopy(self.copies[place])
        del self.copies[place + 1 :]
        if consumer == "newer" and copy.created == self.stream.created:
            copy.consumer = self.stream.consumer
        elif consumer == "none":
            copy.consumer = None
        self.replaced_by(copy, later)

    @rule(count=st.integers(1, 6), later=st.text("abc", max_size=9))
    def its_last_messages_are_lost(self, count: int, later: str) -> None:
        kept = deepcopy(self.stream)
        del kept.messages[max(0, kept.last - count) :]
        self.copies = [each for each in self.copies if each.last <= kept.last]
        self.replaced_by(kept, later)

    @rule(later=st.text("abc", max_size=9))
    def the_stream_is_deleted_and_made_again(self, later: str) -> None:
        self.streams += 1
        self.copies = []
        self.replaced_by(Stream(self.streams), later)

    def replaced_by(self, stream: Stream, later: str) -> None:
        stream.reconcile()
        self.stream = stream
        self.clock += 10
        if later:
            self.messages_are_published(later)
        self.the_connection_is_lost()

    @rule()
    def the_connection_is_lost(self) -> None:
        self.wire.clear()
        me = self.me
        newest = me.here[max(me.here)] if me.here else None
        arrived = Identity(me.created, newest.sequence, newest.stored_ns) if newest else NOTHING
        if me.lost is None:
            me.lost = me.known.newer(arrived)
        else:
            me.doubted.append(arrived)
        me.fresh = True
        me.ordering.hold()

    @rule(count=st.integers(1, 5))
    def the_server_delivers(self, count: int) -> None:
        for _ in range(count):
            if sent := self.stream.deliver():
                self.wire.append(sent)

    @rule()
    def a_delivery_is_lost(self) -> None:
        self.stream.deliver()

    # What the owner does.

    @rule(count=st.integers(1, 5))
    def messages_arrive(self, count: int) -> None:
        for _ in range(min(count, len(self.wire))):
            self.arrives(*self.wire.popleft())

    def arrives(self, number: int, message: Message) -> None:
        me, ordering = self.me, self.me.ordering
        sequence = message.sequence
        if (other := me.here.get(sequence)) is not None and other != message:
            ordering.hold()
            me.fresh = True
            return  # it comes again when more is known
        if number != me.seen + 1 or me.fresh:
            me.fresh = False
            ordering.hold()
        me.seen = number
        if sequence <= ordering.top and ordering.settled(sequence):
            if message.stored_ns > (me.lost or me.known).stored_ns:
                ordering.hold()
            elif not ordering.barrier:
                self.ack(sequence)
            return
        me.here[sequence] = message
        ready = ordering.arrive(sequence, message.key)
        self.note()
        self.start(ready)

    def note(self) -> None:
        me = self.me
        if not me.ordering.barrier and me.here:
            newest = me.here[max(me.here)]
            me.known = me.known.newer(Identity(self.stream.created, newest.sequence, newest.stored_ns))

    @precondition(lambda self: self.me.running)
    @rule(data=st.data())
    def a_handler_ends(self, data: st.DataObject) -> None:
        self.end(data.draw(st.sampled_from(sorted(self.me.running))))

    def end(self, sequence: int) -> None:
        self.me.running.remove(sequence)
        del self.me.here[sequence]
        if not self.me.ordering.barrier:  # in doubt, the next takeover acknowledges it
            self.ack(sequence)
        self.me.ordering.settle(sequence)
        self.start(tuple(self.me.ordering.commit(self.me.ordering.take(1))))

    @precondition(lambda self: self.me.leftover)
    @rule()
    def a_handler_of_a_lost_message_ends(self) -> None:
        sequence, message = self.me.leftover.popitem()
        self.start(self.me.ordering.outlasted(sequence, message.key))

    @rule()
    def what_is_settled_goes_on_record(self) -> None:
        done = self.me.ordering.done(0, 1 << 60)
        newest = self.me.lost or self.me.known
        if done and max(done) <= newest.sequence:
            self.records[-1] = Record(frozenset(done), newest)

    @precondition(lambda self: self.stream.consumer and self.me.lost is None)
    @rule()
    def its_floor_is_saved(self) -> None:
        consumer = self.stream.consumer
        assert consumer is not None
        self.check()
        if consumer is self.stream.consumer:
            self.floor = (consumer.floor, self.stream.identity(self.stream.last))

    @precondition(lambda self: self.me.ordering.barrier)
    @rule()
    def it_recovers(self) -> None:
        self.check()
        self.recover()

    @rule()
    def it_looks_on_its_clock(self) -> None:
        if self.check():
            self.recover()

    @rule()
    def it_dies_and_another_takes_over(self) -> None:
        self.wire.clear()
        self.me = Instance()
        self.take_over()

    @rule()
    def it_hands_over_to_another_without_dying(self) -> None:
        """What runs here ends first."""
        for sequence in sorted(self.me.running):
            self.end(sequence)
        self.it_dies_and_another_takes_over()

    def take_over(self) -> None:
        self.records = [*self.records[-REMEMBERED:], Record(frozenset(), NOTHING)]
        if self.floor is not None:
            self.me.known = self.floor[1]
        self.check()
        for record in self.records:
            first = void(self.verdict(record.newest))
            self.me.ordering.know(each for each in record.settled if first is None or each < first)
        self.recover()

    def check(self) -> bool:
        """Whether the stream was another; what is known of what it lost is forgotten."""
        me = self.me
        known = [me.known if me.lost is None else me.lost, *me.doubted]
        cuts = [first for each in known if (first := void(self.verdict(each))) is not None]
        me.known, me.lost, me.doubted = self.stream.identity(self.stream.last), None, []
        me.created = self.stream.created
        if not cuts:
            return False
        first = min(cuts)
        gone = {each for each in me.here if each >= first}
        begun = gone & me.running
        me.ordering.cut(first, gone - begun)
        me.leftover |= {each: me.here[each] for each in begun}
        me.running -= begun
        me.here = {each: message for each, message in me.here.items() if each < first}
        kept = frozenset(each for each in self.records[-1].settled if each < first)
        self.records[-1] = Record(kept, me.known)
        return True

    def verdict(self, known: Identity) -> Verdict:
        stream = self.stream
        state = StreamState(
            stream.created, 1, stream.last, stream.identity(stream.last).stored_ns, self.clock
        )
        answers = HistoryAnswers()
        while True:
            said = judge(known, state, answers)
            if not isinstance(said, str):
                return said
            if said == "stands":
                stands = stream.message(known.sequence).stored_ns if known.sequence <= stream.last else 0
                answers = HistoryAnswers(stands, answers.later)
            else:
                later = (each.sequence for each in stream.messages if each.stored_ns > known.stored_ns)
                answers = HistoryAnswers(answers.stands, next(later, 0))

    def recover(self) -> None:
        me, stream = self.me, self.stream
        if stream.consumer is None:
            start = 0
            if self.floor is not None:
                floor, newest = self.floor
                start = begin(floor, self.verdict(newest), 0, stream.last)
            stream.consumer = Consumer(start)
        consumer = stream.consumer
        recovery = me.ordering.takeover(consumer.floor, consumer.delivered, len(consumer.pending))
        me.seen = max(me.seen, consumer.deliveries) if not me.fresh else consumer.deliveries
        me.fresh = False
        for sequence in recovery.reack:
            self.ack(sequence)
        self.note()
        self.start(recovery.start)
        for sequence in me.ordering.missing(recovery.nak):
            if sequence in consumer.pending and sequence not in consumer.again:
                consumer.again.append(sequence)

    def ack(self, sequence: int) -> None:
        consumer = self.stream.consumer
        if consumer is not None and sequence in consumer.pending:
            consumer.pending.discard(sequence)
            message = self.stream.message(sequence)
            if message.name not in self.began:
                self.wrong.append(f"{message} was acknowledged without having run")

    def start(self, sequences: tuple[int, ...]) -> None:
        for sequence in sequences:
            message = self.me.here[sequence]
            self.me.running.add(sequence)
            self.began.add(message.name)
            keys = [self.me.here[each].key for each in self.me.running]
            keys += [each.key for each in self.me.leftover.values()]
            if len(keys) != len(set(keys)):
                self.wrong.append(f"{message} runs beside another of its key")

    # What must hold.

    @invariant()
    def nothing_is_acknowledged_without_its_own_run(self) -> None:
        assert not self.wrong

    def teardown(self) -> None:
        """Everything that the stream holds has run."""
        for _ in range(4 * self.stream.last + 12):
            self.it_recovers()
            while sent := self.stream.deliver():
                self.wire.append(sent)
            self.messages_arrive(len(self.wire))
            while self.me.leftover:
                self.a_handler_of_a_lost_message_ends()
            for sequence in sorted(self.me.running):
                self.end(sequence)
        assert not self.wrong
        assert self.stream.consumer is not None
        assert not self.stream.consumer.pending
        never = [each for each in self.stream.messages if each.name not in self.began]
        assert not never, f"never ran: {never}"


TestHistory = History.TestCase
TestHistory.settings = settings(max_examples=200, stateful_step_count=40)
