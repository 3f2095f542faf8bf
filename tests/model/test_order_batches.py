"""The model of one ordered shard, with messages of a key that run together: some of them may go back, not done."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from tests.model.test_order import OrderedShard


class BatchedShard(OrderedShard):
    """A handler has the messages of a batch; they are settled by turns, the first of them first."""

    def __init__(self) -> None:
        self.batches: dict[str, list[int]] = {}
        """By key, those that run together."""
        super().__init__()

    def key(self, sequence: int) -> str:
        return self.server.stored[sequence]

    @precondition(lambda self: self.running)
    @rule(data=st.data(), most=st.integers(1, 3))
    def those_that_follow_join_a_batch(self, data: st.DataObject, most: int) -> None:
        """A batch is taken when its first message starts: nothing of it is settled yet."""
        holder = data.draw(st.sampled_from(sorted(self.running)))
        key = self.key(holder)
        if key in self.batches:
            return
        following = self.ordering.following(key, most)
        assert following == sorted(following)
        self.ordering.join(key, len(following))
        self.batches[key] = [holder, *following]
        for sequence in following:
            if sequence in self.settled or sequence not in self.server.pending:
                self.violations.append(f"{sequence} ran again after it was settled")
            for earlier in (each for each in self.server.stored if each < sequence and self.key(each) == key):
                acked = earlier <= self.server.delivered and earlier not in self.server.pending
                if not acked and earlier not in self.settled and earlier not in self.batches[key]:
                    self.violations.append(f"{sequence} joined before {earlier} of its key was settled")
        self.running.update(following)

    @precondition(lambda self: self.batches)
    @rule(data=st.data(), done=st.integers(0, 3))
    def the_rest_of_a_batch_goes_back(self, data: st.DataObject, done: int) -> None:
        key = data.draw(st.sampled_from(sorted(self.batches)))
        rest = [each for each in self.batches[key] if each in self.running][done:]
        if not rest:
            return
        again = self.ordering.part(key, rest)
        self.running.difference_update(rest)
        self.batches[key] = [each for each in self.batches[key] if each not in rest]
        self.running.update(again)  # they hold their lanes, and start another time
        if again or not self.batches[key]:
            del self.batches[key]

    def start(self, sequences: tuple[int, ...], committed: Iterable[int] = ()) -> None:
        committed = [*committed]
        for key, batch in [*self.batches.items()]:
            batch[:] = [each for each in batch if each not in committed]
            if not batch:
                del self.batches[key]
        super().start(sequences, committed)

    def end(self, sequence: int) -> None:
        """What stands before it in its batch has ended before."""
        batch = [each for each in self.batches.get(self.key(sequence), [sequence]) if each in self.running]
        super().end(batch[0] if batch else sequence)

    def outlast(self, sequence: int) -> None:
        """All of a batch ends at once."""
        key = self.key(sequence)
        together = [each for each in self.leftover if self.key(each) == key]
        self.leftover.difference_update(together)
        for each in together:
            self.start(self.ordering.outlasted(each, key))

    def beside(self, sequence: int) -> bool:
        key = self.key(sequence)
        here = {*self.running, *self.leftover, *self.uncommitted} - {sequence, *self.batches.get(key, ())}
        return key in {self.key(each) for each in here}

    def lose(self, begun: set[int]) -> None:
        """All of a batch has begun, or nothing."""
        keys = {self.key(each) for each in begun}
        self.batches.clear()
        super().lose({each for each in self.running if self.key(each) in keys})

    @rule(late=st.booleans())
    def the_owner_dies_and_another_takes_over(self, *, late: bool) -> None:
        self.batches.clear()
        super().the_owner_dies_and_another_takes_over(late=late)

    @invariant()
    def it_knows_how_many_run(self) -> None:
        keys = {self.key(each) for each in [*self.running, *self.leftover, *self.uncommitted]}
        assert self.ordering.running == len(keys)
        assert self.ordering.holding >= 0

    def teardown(self) -> None:
        for key, batch in [*self.batches.items()]:
            rest = [each for each in batch if each in self.running][1:]
            if rest:
                self.running.update(again := self.ordering.part(key, rest))
                self.running.difference_update(set(rest) - set(again))
        self.batches.clear()
        super().teardown()


TestBatchedShard = BatchedShard.TestCase
TestBatchedShard.settings = settings(max_examples=200)
