"""A model of processes that die: some messages kill, and only those may be found guilty."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from runner.core.settlement import Crashed
from runner.core.suspect import FREE, Run, RunFree, may_start, next_step


class Suspects(RuleBasedStateMachine):
    """One stream, and two processes that run its messages until one of them dies."""

    def __init__(self) -> None:
        super().__init__()
        self.killers: set[int] = set()
        self.waiting: set[int] = set()
        self.delivered: list[int] = []  # one a message: how often
        self.records: dict[int, int] = {}
        self.running: list[dict[int, int]] = [{}, {}]  # one a process: message → stage
        self.handled: set[int] = set()
        self.guilty: set[int] = set()

    @rule(kills=st.booleans())
    def a_message_is_published(self, *, kills: bool) -> None:
        message = len(self.delivered)
        self.delivered.append(0)
        self.waiting.add(message)
        if kills:
            self.killers.add(message)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), process=st.integers(0, 1))
    def everything_waiting_is_delivered(self, data: st.DataObject, process: int) -> None:
        for message in data.draw(st.permutations(sorted(self.waiting))):
            self.delivered[message] += 1
            self.start(message, process)

    def start(self, message: int, process: int) -> None:
        beside = self.running[process]
        match next_step(self.delivered[message], self.records.get(message, 0)):
            case Crashed():
                self.guilty.add(message)
                self.waiting.discard(message)
                self.records.pop(message)
                return
            case RunFree():
                stage = FREE
            case Run(stage):
                pass
        if not self.fits(stage, beside):
            return  # given back: it comes again later, and nothing was recorded
        if stage:
            self.records[message] = stage
        self.waiting.discard(message)
        beside[message] = stage

    @staticmethod
    def fits(stage: int, beside: dict[int, int]) -> bool:
        stages = list(beside.values())
        suspects = sum(each > FREE for each in stages)
        return may_start(stage, running=len(stages), suspects=suspects, highest=max(stages, default=FREE))

    @precondition(lambda self: self.started(kills=False))
    @rule(data=st.data())
    def a_handler_returns(self, data: st.DataObject) -> None:
        process, message = data.draw(st.sampled_from(self.started(kills=False)))
        del self.running[process][message]
        self.records.pop(message, None)
        self.handled.add(message)

    @precondition(lambda self: self.started(kills=True))
    @rule(data=st.data())
    def a_handler_kills_its_process(self, data: st.DataObject) -> None:
        process, _ = data.draw(st.sampled_from(self.started(kills=True)))
        self.waiting |= set(self.running[process])
        self.running[process] = {}

    def started(self, *, kills: bool) -> list[tuple[int, int]]:
        return [
            (process, message)
            for process, beside in enumerate(self.running)
            for message in beside
            if (message in self.killers) is kills
        ]

    @invariant()
    def a_neighbour_is_never_blamed(self) -> None:
        assert self.guilty <= self.killers

    @invariant()
    def nothing_is_lost(self) -> None:
        places = [self.waiting, *map(set, self.running), self.handled, self.guilty]
        assert sorted(message for place in places for message in place) == list(range(len(self.delivered)))

    def teardown(self) -> None:
        """Whatever happened, every killer is found out and every other message handled, in bounded time."""
        for beside in self.running:
            # Those that return do so before a killer kills: nothing but a message ends a process here.
            for message in beside:
                (self.waiting if message in self.killers else self.handled).add(message)
            beside.clear()
        for _ in range(5):
            for message in sorted(self.waiting):
                self.delivered[message] += 1
                self.start(message, 0)
                if message in self.running[0]:
                    self.running[0].clear()
                    (self.waiting if message in self.killers else self.handled).add(message)
        assert self.guilty == self.killers
        assert self.handled == set(range(len(self.delivered))) - self.killers


TestSuspects = Suspects.TestCase
