"""A model of the pull window: a server that delivers, expires and forgets, and handlers that end in any order."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from runner.core.pull import request_size


class PullWindow(RuleBasedStateMachine):
    """What a function holds, and what is on its way to it."""

    def __init__(self) -> None:
        super().__init__()
        self.limit = 1
        self.unsettled = 0
        self.outstanding = 0

    @initialize(limit=st.integers(1, 100))
    def start(self, limit: int) -> None:
        self.limit = limit
        self.refill()

    def refill(self) -> None:
        self.outstanding += request_size(self.limit, self.unsettled, self.outstanding)

    @precondition(lambda self: self.outstanding > 0)
    @rule(data=st.data())
    def messages_come(self, data: st.DataObject) -> None:
        count = data.draw(st.integers(1, self.outstanding))
        self.outstanding -= count
        self.unsettled += count
        self.refill()

    @precondition(lambda self: self.unsettled > 0)
    @rule(data=st.data())
    def messages_are_settled(self, data: st.DataObject) -> None:
        self.unsettled -= data.draw(st.integers(1, self.unsettled))
        self.refill()

    @rule()
    def the_server_forgets_its_requests(self) -> None:
        self.outstanding = 0
        self.refill()

    @invariant()
    def no_message_comes_without_a_slot(self) -> None:
        assert self.unsettled + self.outstanding <= self.limit

    @invariant()
    def a_free_function_is_never_without_a_request(self) -> None:
        assert self.unsettled >= self.limit or self.outstanding > 0

    @invariant()
    def at_least_half_of_what_is_free_is_on_its_way(self) -> None:
        assert self.outstanding * 2 >= self.limit - self.unsettled


TestPullWindow = PullWindow.TestCase
