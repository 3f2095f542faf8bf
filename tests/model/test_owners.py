"""A model of instances that share one shard: frozen, cut off, forgotten by the server, renewed too late.

It takes for granted that a connection which the server has closed is known to its client before it starts anything
more, and that who finds an owner gone writes the claim at once. Where that is not so, outputs are fenced.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec import Struct

from runner.core.takeover import HandOver, Keep, Lease, Lose, Release, Take, Wait, decide

TTL = 3_000.0
STALE = 2 * TTL
"""How long a server keeps a connection whose client does not answer: far longer than a lease."""
NAMES = ("ann", "bob", "cy")
MEMBER = st.sampled_from(NAMES)


class Instance(Struct):
    """What an instance knows, and its connection."""

    name: str
    lease: Lease = Lease()
    held: int | None = None
    connected: bool = False
    frozen: bool = False
    silent: float | None = None  # since when nothing gets through, unnoticed
    sent: float | None = None  # a renewal on its way
    answer: float | None = None  # the answer to the renewal sent then


class Owners(RuleBasedStateMachine):
    """The server's leases, interest and claim, and what each instance makes of them."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.all = {name: Instance(name) for name in NAMES}
        self.leases: dict[str, float] = {}  # name → when the server ends it
        self.present: set[str] = set()  # who has a connection, as the server sees it
        self.owner = ""
        self.epoch = 0
        self.share = NAMES[0]
        for name in NAMES:
            self.everything_goes_well(name)

    # What the world does.

    @rule(milliseconds=st.sampled_from([1, 50, 400, 999, 1500, 2999, 3000, 3001]))
    def time_passes(self, milliseconds: int) -> None:
        self.now += milliseconds
        for each in self.all.values():
            if each.silent is not None and self.now > each.silent + STALE:
                self.present.discard(each.name)

    @rule(member=MEMBER)
    def it_freezes(self, member: str) -> None:
        self.all[member].frozen = True

    @rule(member=MEMBER)
    def it_thaws(self, member: str) -> None:
        self.all[member].frozen = False

    @rule(member=MEMBER, arrived=st.booleans())
    def its_connection_is_closed(self, member: str, *, arrived: bool) -> None:
        each = self.all[member]
        if arrived:
            self.a_renewal_arrives(member)
        self.present.discard(member)
        each.connected, each.silent, each.sent, each.answer = False, None, None, None
        each.lease = each.lease.disconnected()

    @rule(member=MEMBER)
    def nothing_gets_through_any_more(self, member: str) -> None:
        each = self.all[member]
        if each.connected and each.silent is None:
            each.silent, each.sent, each.answer = self.now, None, None

    @rule(member=MEMBER)
    def a_renewal_arrives(self, member: str) -> None:
        each = self.all[member]
        if each.sent is not None:
            self.leases[member] = self.now + TTL
            each.sent, each.answer = None, each.sent

    # What an instance does.

    def able(self, member: str) -> bool:
        each = self.all[member]
        return each.connected and not each.frozen and each.silent is None

    @rule(member=MEMBER)
    def it_connects(self, member: str) -> None:
        each = self.all[member]
        if not each.connected and not each.frozen:
            each.connected = True
            self.present.add(member)

    @rule(member=MEMBER)
    def it_sends_a_renewal(self, member: str) -> None:
        each = self.all[member]
        if self.able(member) and each.sent is None and each.answer is None:
            each.sent = self.now

    @rule(member=MEMBER)
    def its_renewal_is_answered(self, member: str) -> None:
        each = self.all[member]
        if self.able(member) and each.answer is not None:
            each.lease = each.lease.renewed(each.answer, self.now, TTL)
            each.answer = None

    @rule(member=MEMBER)
    def it_reads_the_claim(self, member: str) -> None:
        each = self.all[member]
        if self.able(member):
            self.all[member].lease = each.lease.claims_read(self.now)
            if self.decision(each) == Lose():
                each.held = None

    @rule(member=MEMBER)
    def its_release_does_not_come_through(self, member: str) -> None:
        each = self.all[member]
        if self.able(member) and self.decision(each) == HandOver():
            each.held = None

    @rule(member=MEMBER)
    def it_is_said_to_be_gone(self, member: str) -> None:
        self.all[member].lease = self.all[member].lease.doubted(self.now)

    @rule(member=MEMBER)
    def it_acts(self, member: str) -> None:
        each = self.all[member]
        if not self.able(member):
            return
        match self.decision(each):
            case Take(epoch):
                self.owner, self.epoch, each.held = member, epoch, epoch
            case HandOver() | Release():
                self.owner, each.held = "", None
            case Lose():
                each.held = None
            case Keep() | Wait():
                pass

    @rule(member=MEMBER)
    def it_is_to_own_the_shard(self, member: str) -> None:
        self.share = member
        self.it_acts(member)

    @rule(
        member=MEMBER,
        other=MEMBER,
        milliseconds=st.sampled_from([50, 1500, 2999, 3001]),
        arrived=st.booleans(),
    )
    def its_renewal_takes_long(self, member: str, other: str, milliseconds: int, *, arrived: bool) -> None:
        """It may stand on the way there or on the way back."""
        self.it_sends_a_renewal(member)
        if arrived:
            self.a_renewal_arrives(member)
        self.time_passes(milliseconds)
        self.it_is_to_own_the_shard(other)
        self.a_renewal_arrives(member)
        self.its_renewal_is_answered(member)

    @rule(member=MEMBER)
    def everything_goes_well(self, member: str) -> None:
        self.it_thaws(member)
        for step in (
            self.it_connects, self.it_sends_a_renewal, self.a_renewal_arrives, self.its_renewal_is_answered,
            self.it_reads_the_claim, self.it_acts,
        ):  # fmt: skip
            step(member)

    def decision(self, each: Instance) -> object:
        gone = self.owner not in self.present or self.leases.get(self.owner, 0.0) <= self.now
        return decide(self.owner, self.epoch, me=each.name, held=each.held, share=self.share, gone=gone)

    # What must hold.

    def dispatching(self) -> list[str]:
        return [
            each.name
            for each in self.all.values()
            if each.held is not None and not each.frozen and each.lease.may_start(self.now)
        ]

    @invariant()
    def never_two_owners_dispatch_one_shard(self) -> None:
        assert len(self.dispatching()) <= 1

    @invariant()
    def who_dispatches_has_the_claim(self) -> None:
        assert all(self.owner == name for name in self.dispatching())

    @precondition(lambda self: self.able(self.share))
    @rule()
    def the_shard_is_never_without_an_owner_for_long(self) -> None:
        """Whoever is in its way hands over or is gone once leases have run out."""
        self.time_passes(int(TTL))
        for name in NAMES:
            if self.able(name):
                self.it_acts(name)
        self.everything_goes_well(self.share)  # a renewal that was on its way may be worth nothing by now
        self.everything_goes_well(self.share)
        assert self.dispatching() == [self.share]


TestOwners = Owners.TestCase
TestOwners.settings = settings(max_examples=100)
