"""A model of processes that die, and of some that only seem to: only a message that kills may be found guilty."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from runner.core.poison import ALONE, CELL, FREE, Start, StartRecord, may_start, next_step
from runner.core.settlement import Crashed

PROCESSES = 4
MESSAGES = 4
TROUBLES = (
    "its connection is lost",
    "it loses what it owns",
    "it loses what it owns, and cancels it",
    "both are lost",
    "it is told to end",
    "it is killed from outside",
)
names = itertools.count()


@dataclass
class Process:
    """One process: what runs in it, and which of its starts may stand in the bucket though nothing runs any more."""

    name: str = field(default_factory=lambda: f"p{next(names)}")
    connected: bool = True
    draining: bool = False
    running: dict[int, int] = field(default_factory=dict)  # message → stage
    lost: set[int] = field(default_factory=set)  # of those, the ones that are another's by now
    owed: dict[int, int] = field(default_factory=dict)  # message → stage of a start that is to be taken back

    def lets_in(self, message: int, stage: int) -> bool:
        """Whether a message of that stage may start beside what runs, and beside what ran alone and still stands."""
        held = [each for each in self.owed.values() if each >= ALONE]
        stages = [each for each in (*self.running.values(), *held) if each != CELL]
        here = stage == CELL or may_start(stage, running=len(stages), highest=max(stages, default=FREE))
        return message not in self.running and here


class Suspects(RuleBasedStateMachine):
    """One stream, and processes that run its messages, lose them, lose their connection, are stopped and die."""

    def __init__(self) -> None:
        super().__init__()
        self.troubles: list[str] = []
        self.killers: set[int] = set()
        self.waiting: set[int] = set()
        self.delivered: list[int] = []  # one a message: how often
        self.records: dict[int, StartRecord] = {}
        self.processes = [Process() for _ in range(PROCESSES)]
        self.killed: set[str] = set()
        """Processes that were killed from outside."""
        self.handled: set[int] = set()
        self.guilty: dict[int, list[Start]] = {}
        """Message → its starts in processes that were dead when it was found guilty."""

    # -- what a process does ----------------------------------------------------------------------------

    @initialize(troubles=st.sets(st.sampled_from(TROUBLES), min_size=1, max_size=2))
    def some_troubles_are_about(self, troubles: set[str]) -> None:
        """Few at a time, or chance would hardly ever bring the same one thrice."""
        self.troubles = sorted(troubles)

    @precondition(lambda self: len(self.delivered) < MESSAGES)
    @rule(kills=st.booleans())
    def a_message_is_published(self, *, kills: bool) -> None:
        message = len(self.delivered)
        self.delivered.append(0)
        self.waiting.add(message)
        if kills:
            self.killers.add(message)

    @precondition(lambda self: self.waiting and self.open())
    @rule(data=st.data(), most=st.integers(1, MESSAGES))
    def what_waits_is_delivered(self, data: st.DataObject, most: int) -> None:
        process = data.draw(st.sampled_from(self.open()))
        for message in data.draw(st.permutations(sorted(self.waiting)))[:most]:
            self.delivered[message] += 1
            self.start(message, process)

    def open(self) -> list[Process]:
        return [each for each in self.processes if each.connected and not each.draining]

    def start(self, message: int, process: Process) -> None:
        stage = FREE
        if self.delivered[message] > 1:
            record = self.records.get(message, StartRecord(0))
            step = next_step(record, self.silent(record, process))
            if isinstance(step, Crashed):
                # It waits some seconds: whoever lives is back by then.
                for each in self.processes:
                    each.connected = True
                step = next_step(record, self.silent(record, process))
                if isinstance(step, Crashed):
                    living = {each.name for each in self.processes}
                    self.guilty[message] = [
                        each for each in record.starts if each.seen or each.instance not in living
                    ]
                    self.waiting.discard(message)
                    del self.records[message]
                    return
            stage = step.stage
        if not process.lets_in(message, stage):
            return  # given back: it comes again later, and nothing was recorded
        if stage:
            self.records[message] = self.records.get(message, StartRecord(0)).started(
                Start(process.name, stage)
            )
            process.owed.pop(message, None)
        self.waiting.discard(message)
        process.running[message] = stage

    def silent(self, record: StartRecord, process: Process) -> set[str]:
        answer = {each.name for each in self.processes if each.connected}
        return {start.instance for start in record.starts} - answer

    @precondition(lambda self: self.started(kills=False))
    @rule(data=st.data())
    def a_handler_returns(self, data: st.DataObject) -> None:
        process, message = data.draw(st.sampled_from(self.started(kills=False)))
        stage = process.running.pop(message)
        if message not in process.lost and process.connected:
            self.settle(message)
            return
        if message not in process.lost:  # its ack goes nowhere
            self.waiting.add(message)
        process.lost.discard(message)
        if stage:
            process.owed[message] = stage

    def settle(self, message: int) -> None:
        self.records.pop(message, None)
        self.handled.add(message)

    @precondition(lambda self: self.started(kills=True))
    @rule(data=st.data())
    def a_handler_kills_its_process(self, data: st.DataObject) -> None:
        process, message = data.draw(st.sampled_from(self.started(kills=True)))
        self.kill(process, message)

    def kill(self, process: Process, message: int) -> None:
        """By its handler: it kills what it runs in."""
        if process.running[message] != CELL:
            self.die(process)
            return
        del process.running[message]
        if message in process.lost or process.draining or not process.connected:
            if message not in process.lost:
                self.waiting.add(message)
            process.lost.discard(message)
            process.owed[message] = CELL
            return
        record = self.records.get(message, StartRecord(0)).without(process.name)
        self.records[message] = record.started(Start(f"cell-{next(names)}", CELL, seen=True))
        self.waiting.add(message)

    def die(self, process: Process) -> None:
        self.waiting |= process.running.keys() - process.lost
        self.processes[self.processes.index(process)] = Process()

    @rule(at=st.integers(0, PROCESSES - 1))
    def a_process_takes_back_what_it_owes(self, at: int) -> None:
        process = self.processes[at]
        if process.connected:
            for message in process.owed:
                self.take_back(message, process)
            process.owed.clear()

    def take_back(self, message: int, process: Process) -> None:
        if message in self.records:
            self.records[message] = self.records[message].without(process.name)

    # -- what happens to it -----------------------------------------------------------------------------

    @rule(at=st.integers(0, PROCESSES - 1))
    def a_process_is_back(self, at: int) -> None:
        self.processes[at].connected = True

    @rule(data=st.data())
    def there_is_trouble(self, data: st.DataObject) -> None:
        busy = [each for each in self.processes if each.running]
        process = data.draw(st.sampled_from(busy or self.processes))
        match data.draw(st.sampled_from(self.troubles)):
            case "its connection is lost":
                process.connected = False
            case "it loses what it owns":
                self.lose(process)
            case "it loses what it owns, and cancels it":
                self.lose(process)
                process.owed |= {message: stage for message, stage in process.running.items() if stage}
                process.running.clear()
                process.lost.clear()
            case "both are lost":
                process.connected = False
                self.lose(process)
            case "it is told to end":
                process.draining = True
                if process.connected:
                    for message in [*process.running, *process.owed]:
                        self.take_back(message, process)
            case "it is killed from outside":
                if process.name in {
                    each.instance for record in self.records.values() for each in record.starts
                }:
                    self.killed.add(process.name)
                self.die(process)

    def lose(self, process: Process) -> None:
        self.waiting |= process.running.keys() - process.lost
        process.lost |= process.running.keys()

    def started(self, *, kills: bool) -> list[tuple[Process, int]]:
        return [
            (process, message)
            for process in self.processes
            for message in process.running
            if (message in self.killers) is kills
        ]

    # -- what must hold ---------------------------------------------------------------------------------

    @invariant()
    def only_what_kills_is_blamed(self) -> None:
        """Or what was there alone, twice, when somebody killed its process: that looks the same."""
        for message, starts in self.guilty.items():
            alone = {start.instance for start in starts if start.stage >= ALONE}
            assert message in self.killers or len(alone & self.killed) >= 2

    @invariant()
    def one_death_is_not_enough(self) -> None:
        for starts in self.guilty.values():
            assert sum(start.seen for start in starts) >= 2 or len({start.instance for start in starts}) >= 3

    @invariant()
    def nothing_is_lost(self) -> None:
        places = [self.waiting, self.handled, self.guilty.keys()]
        places += [process.running.keys() - process.lost for process in self.processes]
        assert sorted(message for place in places for message in place) == list(range(len(self.delivered)))

    def teardown(self) -> None:
        """Whatever happened, every killer is found out and every other message handled, in bounded time."""
        for process in self.processes:
            for message in process.running.keys() - process.lost:
                if message in self.killers:
                    self.waiting.add(message)
                else:
                    self.settle(message)
            for message in [*process.running, *process.owed]:
                self.take_back(message, process)
        self.processes = [Process()]
        for _ in range(7):
            for message in sorted(self.waiting):
                (process,) = self.processes
                self.delivered[message] += 1
                self.start(message, process)
                if message in process.running and message in self.killers:
                    self.kill(process, message)
                elif message in process.running:
                    del process.running[message]
                    self.settle(message)
        everything = set(range(len(self.delivered)))
        assert self.guilty.keys() >= self.killers
        assert self.handled == everything - self.guilty.keys()
        assert not any(record.starts for record in self.records.values())


TestSuspects = Suspects.TestCase
TestSuspects.settings = settings(deadline=None, max_examples=100, stateful_step_count=40)
