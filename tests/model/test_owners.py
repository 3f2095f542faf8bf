"""A model of instances that share one shard, under everything that may happen to their connections, their bucket and clocks.

The bucket is one register a key, written by compare-and-set; writes and answers may take as long as they like or be lost, and what
is read may be as old as it likes. A server's connection may be gone while its client is not told, and the other way round.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from math import inf

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from msgspec import Struct, field
from msgspec.structs import replace

from runner.core.death import Inquest, Sighting
from runner.core.lease import CLAIMS_SECONDS, TTL_SECONDS, Lease
from runner.core.takeover import Bury, Confirm, HandOver, Owner, Release, SeenClaim, Take, Vacate, decide

B = 0.045
NAMES = ("ann", "bob", "cy")
NEAR = ("ann", "bob")
"""At the server whose interest is asked; cy is at another one, behind a way that may be cut."""
CLAIM = "claim"
VACANT = "vacant"
SOUGHT = "sought"
"""A lease that another has written in the place of one that is not there."""
MEMBER = st.sampled_from(NAMES)
MOMENTS = st.sampled_from([0.001, 0.01, 0.02, 0.044, 0.045, 0.05, 0.2, 0.9, 1.0, 2.0, 2.99, 3.0, 3.1, 3.2])


class Record(Struct, frozen=True):
    """What stands on a key: `value` is a claim's owner, or what a lease says."""

    revision: int = 0
    value: str = ""


class Write(Struct):
    """A write on its way; `answer` is the revision, 0 when it was refused, None before it was applied."""

    author: str
    connection: int
    key: str
    value: str
    expected: int | None
    sent: float
    since: float
    """When the lease began that its author had."""
    restores: bool = False
    answer: int | None = None


class Instance(Struct):
    """What an instance knows, and its connection."""

    name: str
    lease: Lease = Lease()
    revision: int = 0  # of its own lease
    held: int | None = None  # the revision of the claim that it holds
    refused: bool = False  # the claim that it held is not there any more
    seen: float = -inf  # when the claim that it holds, or held, was last found as it was written
    known: SeenClaim = SeenClaim()
    vacant: float = inf  # since when a vacant claim is known to stand at its revision
    sightings: dict[str, Sighting] = field(default_factory=dict)
    connection: int = 0  # 0: none that it knows of
    frozen: bool = False
    pings: list[tuple[int, float, bool]] = field(
        default_factory=list
    )  # connection, sent, answered by the server
    writes: list[Write] = field(default_factory=list)
    absent: dict[str, Inquest] = field(default_factory=dict)
    judged: dict[str, int] = field(default_factory=dict)  # the revision of the lease that an inquest is about
    witness: float = inf


class Owners(RuleBasedStateMachine):
    """The server's side and each instance's."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.all = {name: Instance(name) for name in NAMES}
        self.served: dict[int, str] = {}  # connections that the servers have
        self.connections = 0
        self.way = True  # to the other server
        self.way_since = 0.0
        self.history: list[dict[str, Record]] = [{CLAIM: Record(1)}]
        self.last = 1
        self.share = "ann"
        for name in NAMES:
            self.everything_goes_well(name)

    @property
    def bucket(self) -> dict[str, Record]:
        return self.history[-1]

    # -- what the world does ----------------------------------------------------------------------------

    @rule(seconds=MOMENTS)
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(member=MEMBER)
    def it_freezes_or_thaws(self, member: str) -> None:
        self.all[member].frozen = not self.all[member].frozen

    @rule(member=MEMBER)
    def its_server_drops_its_connection(self, member: str) -> None:
        self.served.pop(self.all[member].connection, None)

    @rule(member=MEMBER)
    def it_learns_that_its_connection_is_gone(self, member: str) -> None:
        each = self.all[member]
        if each.connection and not each.frozen:
            each.connection = 0
            each.lease = each.lease.disconnected()

    @rule()
    def the_way_is_cut(self) -> None:
        self.way = False

    @rule()
    def the_way_is_there_again(self) -> None:
        if not self.way:
            self.now += 1.0
            self.way, self.way_since = True, self.now

    @rule(key=st.sampled_from([CLAIM, *NAMES, "all"]))
    def the_bucket_loses(self, key: str) -> None:
        gone = [*self.bucket] if key == "all" else [key]
        self.history.append({name: each for name, each in self.bucket.items() if name not in gone})

    @rule(back=st.integers(1, 6))
    def the_server_comes_back_with_an_older_bucket(self, back: int) -> None:
        """Its clients lose their connections with it."""
        self.history = self.history[:-back] or self.history[:1]
        self.served.clear()
        for each in self.all.values():
            each.connection, each.writes, each.pings = 0, [], []
            each.lease = each.lease.disconnected()
            each.sightings, each.known, each.vacant = {}, SeenClaim(readable=False), inf

    @rule(member=MEMBER, place=st.integers(0, 3), answered=st.booleans())
    def a_write_arrives(self, member: str, place: int, *, answered: bool) -> None:
        writes = [each for each in self.all[member].writes if each.answer is None]
        if place < len(writes):
            write = writes[place]
            standing = self.bucket.get(write.key, Record())
            if write.expected is not None and write.expected != standing.revision:
                write.answer = 0
            else:
                self.last += 1
                write.answer = self.last
                self.history.append({**self.bucket, write.key: Record(self.last, write.value)})
            if answered:
                self.it_takes_an_answer(member, self.all[member].writes.index(write))

    # -- what an instance does --------------------------------------------------------------------------

    def able(self, member: str) -> bool:
        each = self.all[member]
        return bool(each.connection) and not each.frozen

    @rule(member=MEMBER)
    def it_connects(self, member: str) -> None:
        each = self.all[member]
        if not each.connection and not each.frozen:
            self.connections += 1
            each.connection = self.connections
            self.served[self.connections] = member
            each.writes = [write for write in each.writes if write.answer is None]

    @rule(member=MEMBER)
    def it_pings(self, member: str) -> None:
        each = self.all[member]
        if self.able(member):
            each.pings.append((each.connection, self.now, False))

    @rule(member=MEMBER)
    def its_pings_reach_the_server(self, member: str) -> None:
        each = self.all[member]
        each.pings = [(conn, sent, done or conn in self.served) for conn, sent, done in each.pings]

    @rule(member=MEMBER)
    def it_hears_the_answers(self, member: str) -> None:
        each = self.all[member]
        if self.able(member):
            for connection, sent, done in each.pings:
                if done and connection == each.connection:
                    each.lease = each.lease.pinged(sent)
            each.pings = [ping for ping in each.pings if not ping[2]]

    def send(self, member: str, key: str, value: str, expected: int | None) -> Write | None:
        each = self.all[member]
        if any(write.key == key and write.connection == each.connection for write in each.writes):
            return None  # one at a time
        write = Write(member, each.connection, key, value, expected, self.now, each.lease.since)
        if each.connection in self.served:
            each.writes.append(write)
        if key == CLAIM:
            each.refused = False  # it goes on with another question
        return write

    @rule(member=MEMBER)
    def it_renews(self, member: str) -> None:
        each = self.all[member]
        if self.able(member):
            self.send(member, member, "alive", each.revision or None)

    @rule(member=MEMBER, place=st.integers(0, 3))
    def it_takes_an_answer(self, member: str, place: int) -> None:
        each = self.all[member]
        if not self.able(member) or place >= len(each.writes) or each.writes[place].answer is None:
            return
        write = each.writes.pop(place)
        if write.connection != each.connection:
            return  # whoever waited for it was told that the connection is lost
        assert write.answer is not None
        if write.key == member:
            self.its_lease_is_answered(each, write)
        elif write.key == CLAIM:
            self.its_claim_is_answered(each, write)
        elif write.answer:
            bound = 1.0 if write.value == SOUGHT else B
            each.sightings[write.key] = Sighting(write.answer, self.now, bound, write.value == "dead")

    def its_lease_is_answered(self, each: Instance, write: Write) -> None:
        assert write.answer is not None
        if not write.answer:
            each.lease, each.revision = each.lease.lost(), 0
            return
        if write.expected:
            each.lease = each.lease.renewed(write.sent, self.now, B)
        else:
            each.lease = each.lease.began(write.sent, self.now, B)
        each.revision = write.answer

    def its_claim_is_answered(self, each: Instance, write: Write) -> None:
        assert write.answer is not None
        if write.answer:
            self.it_knows(each, write.value, write.answer)
        if write.value != each.name:
            return  # released: it was held no more from sending it on
        if not write.answer:
            if each.held is not None and write.expected == each.held:
                each.held, each.refused = None, True
            return
        if each.held not in {None, write.expected}:
            return
        kept = write.since == each.lease.since and (each.lease.claims_current or write.restores)
        if each.held is None and not kept:
            return  # the claim is one of ours that is not held
        each.held, each.seen = write.answer, write.sent
        if not each.lease.claims_current and write.sent >= each.lease.since:
            each.lease = each.lease.claims_confirmed(write.sent)

    def it_knows(self, each: Instance, value: str, revision: int) -> None:
        if value != VACANT:
            each.vacant = inf
        elif each.known.revision != revision or each.vacant == inf:
            each.vacant = self.now
        each.known = SeenClaim(value if value != VACANT else "", revision, readable=bool(revision))

    @rule(member=MEMBER)
    def it_confirms_its_claim(self, member: str) -> None:
        each = self.all[member]
        if self.able(member) and each.revision and each.lease.since <= self.now:
            if each.held is None:
                each.lease = each.lease.claims_confirmed(self.now)
            else:
                self.send(member, CLAIM, member, each.held)

    @rule(member=MEMBER, other=st.sampled_from([*NAMES, CLAIM]), age=st.integers(0, 8))
    def it_reads(self, member: str, other: str, age: int) -> None:
        """What stood there lately."""
        each = self.all[member]
        if not self.able(member):
            return
        found = self.history[max(0, len(self.history) - 1 - age)].get(other, Record())
        if other == CLAIM:
            if found.revision > each.known.revision or not found.revision:
                self.it_knows(each, found.value, found.revision)
            if not age and each.held in {None, found.revision}:
                each.lease = each.lease.claims_read(self.now)
                if each.held is not None:
                    each.seen = self.now
        elif other != member:
            before = each.sightings.get(other)
            if before is None or found.revision > before.revision or (not found.revision and before.revision):
                each.sightings[other] = Sighting(
                    found.revision, self.now, 1.0 if found.value == SOUGHT else B, found.value == "dead"
                )

    @rule(member=MEMBER, other=MEMBER)
    def it_probes(self, member: str, other: str) -> None:
        """The servers answer at once: it is the moment of the answer that counts."""
        each = self.all[member]
        if not self.able(member) or member == other or each.connection not in self.served:
            return
        near = member in NEAR and other in NEAR
        there = other in self.served.values() and (near or self.way)
        if there:
            each.absent.pop(other, None)
            each.witness = inf
        elif other not in each.absent:
            each.absent[other] = Inquest(self.now, self.now, near, each.witness)
            seen = each.sightings.get(other)
            each.judged[other] = seen.revision if seen is not None else 0
        else:
            first = each.absent[other]
            each.absent[other] = Inquest(first.absent, self.now, near, first.witness)

    @rule(member=MEMBER)
    def a_witness_answers(self, member: str) -> None:
        each = self.all[member]
        if self.able(member) and each.connection in self.served and self.way:
            each.witness = self.now
            for other, found in each.absent.items():
                each.absent[other] = Inquest(found.absent, found.again, found.near, found.witness, self.now)

    @rule(member=MEMBER, other=MEMBER)
    def it_buries(self, member: str, other: str) -> None:
        each = self.all[member]
        seen = each.sightings.get(other)
        if self.able(member) and member != other and seen is not None:
            inquest = each.absent.get(other)
            proved = (
                inquest is not None and each.judged[other] == seen.revision and inquest.proves(seen.bound)
            )
            if not seen.revision:
                self.send(member, other, SOUGHT, 0)  # in its place: what is judged has a revision
            elif seen.ran_out(self.now) or proved:
                self.send(member, other, "dead", seen.revision)

    def share_as_seen_by(self, each: Instance) -> str:
        start = NAMES.index(self.share)
        ring = NAMES[start:] + NAMES[:start]
        return next(name for name in ring if name == each.name or not self.is_dead(each, name))

    @staticmethod
    def is_dead(each: Instance, name: str) -> bool:
        seen = each.sightings.get(name)
        return seen is not None and seen.dead

    def decision(self, each: Instance) -> object:
        owner = each.sightings.get(each.known.owner)
        vacant = self.now - each.vacant if each.vacant < inf else None
        return decide(
            replace(each.known, vacant=vacant),
            Owner(
                living=owner is not None and not owner.dead,
                buried=owner.revision if owner is not None and owner.dead else None,
            ),
            me=each.name,
            held=each.held,
            share=self.share_as_seen_by(each),
        )

    @rule(member=MEMBER)
    def it_acts(self, member: str) -> None:
        each = self.all[member]
        if not self.able(member) or not each.lease.claims_current or self.now >= each.lease.until:
            return
        match self.decision(each):
            case Take():
                self.send(member, CLAIM, member, each.known.revision)
            case Vacate():
                self.send(member, CLAIM, VACANT, each.known.revision)
            case HandOver():
                held, each.held = each.held, None
                self.send(member, CLAIM, "", held)
            case Release():
                self.send(member, CLAIM, "", each.known.revision)
            case Confirm():
                self.send(member, CLAIM, member, each.held)
            case Bury():
                each.sightings.setdefault(each.known.owner, Sighting(0, self.now))

    @rule(member=MEMBER)
    def it_writes_the_claim_again_that_the_bucket_has_lost(self, member: str) -> None:
        """Only who held it; its lease stands, or this would not be asked."""
        each = self.all[member]
        if not each.refused or not self.able(member) or not each.lease.since <= self.now < each.lease.until:
            return
        standing = self.bucket.get(CLAIM, Record())
        if not each.lease.unbroken or self.now >= each.seen + CLAIMS_SECONDS:
            each.refused = False  # another may have had it before it was lost
        elif not standing.revision:
            self.send(member, CLAIM, VACANT, 0)
            each.refused = True
        elif standing.value == VACANT and (write := self.send(member, CLAIM, member, standing.revision)):
            write.restores = True
        elif standing.value != VACANT:
            each.refused = False

    @rule(member=MEMBER)
    def it_is_to_own_the_shard(self, member: str) -> None:
        self.share = member

    @rule(member=MEMBER)
    def everything_goes_well(self, member: str) -> None:
        each = self.all[member]
        each.frozen = False
        self.it_connects(member)
        if each.connection not in self.served:
            self.it_learns_that_its_connection_is_gone(member)
            self.it_connects(member)
        for _ in range(2):
            self.it_renews(member)
            self.all_arrives(member)
        self.it_pings(member)
        self.its_pings_reach_the_server(member)
        self.it_hears_the_answers(member)
        self.it_confirms_its_claim(member)
        self.all_arrives(member)
        for other in NAMES:
            self.it_reads(member, other, 0)
        self.it_reads(member, CLAIM, 0)
        self.it_acts(member)
        self.all_arrives(member)

    def all_arrives(self, member: str) -> None:
        for _ in range(len(self.all[member].writes)):
            self.a_write_arrives(member, 0, answered=False)
        for place in reversed(range(len(self.all[member].writes))):
            self.it_takes_an_answer(member, place)

    # -- what must hold ---------------------------------------------------------------------------------

    def starting(self) -> list[str]:
        return [
            each.name
            for each in self.all.values()
            if each.held is not None and not each.frozen and self.now < each.lease.starts_until
        ]

    @invariant()
    def never_two_instances_start_messages_of_one_shard(self) -> None:
        assert len(self.starting()) <= 1, self.starting()

    @rule(member=MEMBER)
    def the_shard_is_never_without_an_owner_for_long(self, member: str) -> None:
        """Once all is well, the one whose share it is may start before long."""
        self.share = member
        self.the_way_is_there_again()
        for _ in range(4):
            for name in NAMES:
                self.everything_goes_well(name)
            for name in NAMES:
                for other in NAMES:
                    self.it_buries(name, other)
                self.all_arrives(name)
            self.time_passes(TTL_SECONDS + 0.2)
            for name in NAMES:
                self.all[name].writes.clear()
        for name in NAMES:
            self.everything_goes_well(name)
        self.everything_goes_well(member)
        self.everything_goes_well(member)
        assert self.starting() == [member]


TestOwners = Owners.TestCase
TestOwners.settings = settings(max_examples=300, stateful_step_count=60)


Step = Callable[[Owners, random.Random, str, str], None]


def a_ping(world: Owners, luck: random.Random, name: str, _: str) -> None:
    for step in (world.it_pings, world.its_pings_reach_the_server, world.it_hears_the_answers):
        if luck.random() < 0.9:
            step(name)


def a_recovery(world: Owners, luck: random.Random, name: str, _: str) -> None:
    each = world.all[name]
    if each.frozen and luck.random() < 0.1:
        world.it_freezes_or_thaws(name)
    if each.connection not in world.served and luck.random() < 0.1:
        world.it_learns_that_its_connection_is_gone(name)
    world.it_connects(name)


LIFE: list[tuple[float, Step]] = [
    (10, lambda world, luck, name, _: world.time_passes(luck.choice((0.001, 0.003, 0.01, 0.02, 0.044)))),
    (15, a_ping),
    (6, lambda world, luck, name, _: world.it_renews(name)),
    (4, lambda world, luck, name, _: world.it_confirms_its_claim(name)),
    (1, lambda world, luck, name, _: world.it_writes_the_claim_again_that_the_bucket_has_lost(name)),
    (19, lambda world, luck, name, _: world.a_write_arrives(
        name, luck.randrange(2), answered=luck.random() < 0.7)),
    (5, lambda world, luck, name, _: world.it_takes_an_answer(name, luck.randrange(2))),
    (10, lambda world, luck, name, other: world.it_reads(
        name, luck.choice((other, CLAIM)), luck.choice((0, 0, 0, 1, 4)))),
    (8, lambda world, luck, name, other: world.it_probes(name, other)),
    (2, lambda world, luck, name, _: world.a_witness_answers(name)),
    (7, lambda world, luck, name, other: world.it_buries(name, other)),
    (9, lambda world, luck, name, _: world.it_acts(name)),
    (2.5, a_recovery),
    (0.2, lambda world, luck, name, _: world.time_passes(luck.choice((0.3, 1.0, 3.0, 3.2)))),
    (0.6, lambda world, luck, name, _: world.it_is_to_own_the_shard(name)),
    (0.1, lambda world, luck, name, _: world.it_freezes_or_thaws(name)),
    (0.25, lambda world, luck, name, _: world.its_server_drops_its_connection(name)),
    (0.1, lambda world, luck, name, _: world.it_learns_that_its_connection_is_gone(name)),
    (0.1, lambda world, luck, name, _: world.the_way_is_cut()),
    (0.1, lambda world, luck, name, _: world.the_way_is_there_again()),
    (0.1, lambda world, luck, name, _: world.the_bucket_loses(luck.choice((CLAIM, *NAMES, "all")))),
    (0.1, lambda world, luck, name, _: world.the_server_comes_back_with_an_older_bucket(luck.randint(1, 4))),
]  # fmt: skip
"""The steps of which a real life consists, and how often each comes."""


RUIN: list[tuple[float, Step]] = [
    *LIFE,
    (3, lambda world, luck, name, _: world.everything_goes_well(name)),
    (1, lambda world, luck, name, _: world.the_bucket_loses(luck.choice((CLAIM, CLAIM, *NAMES, "all")))),
    (1, lambda world, luck, name, _: world.it_freezes_or_thaws(name)),
    (1, lambda world, luck, name, _: world.time_passes(luck.choice((1.0, 2.0, 3.0, 3.2)))),
    (0.5, lambda world, luck, name, _: world.it_is_to_own_the_shard(name)),
]
"""The same, where one misfortune follows another and all goes well for a moment in between."""


def explore(life: list[tuple[float, Step]], seed: int, steps: int) -> int:
    """Walk at random; how often an instance could start."""
    luck = random.Random(seed)
    world = Owners()
    started = 0
    for way in luck.choices([step for _, step in life], [weight for weight, _ in life], k=steps):
        way(world, luck, luck.choice(NAMES), luck.choice(NAMES))
        world.never_two_instances_start_messages_of_one_shard()
        started += bool(world.starting())
    return started


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("life", [LIFE, RUIN], ids=["life", "ruin"])
def test_no_walk_leads_to_two_owners(life: list[tuple[float, Step]], seed: int) -> None:
    assert explore(life, seed, 10_000) > 100, "now and then an instance works"


class Story:
    """The model, where each step is told; after each, no two may start."""

    def __init__(self) -> None:
        self.world = Owners()
        self.world.everything_goes_well("ann")
        assert self.world.starting() == ["ann"]

    def well(self, *names: str) -> None:
        for name in names:
            self.world.everything_goes_well(name)
            self.world.never_two_instances_start_messages_of_one_shard()

    def alive(self, *names: str, seconds: float) -> None:
        """They renew their leases and are pinged for so long, and read nothing."""
        while seconds > 0:
            self.world.time_passes(0.5)
            seconds -= 0.5
            for name in names:
                self.world.it_renews(name)
                self.world.all_arrives(name)
                self.world.it_renews(name)  # the first one may have been refused
                self.world.all_arrives(name)
                self.world.it_pings(name)
                self.world.its_pings_reach_the_server(name)
                self.world.it_hears_the_answers(name)
            self.world.never_two_instances_start_messages_of_one_shard()

    def buries(self, name: str, other: str) -> None:
        self.world.it_buries(name, other)
        self.world.all_arrives(name)
        assert self.world.bucket[other].value == "dead"

    def bob_takes_the_claim_that_the_bucket_loses(self, *alive: str, frozen: str = "") -> None:
        self.world.the_bucket_loses(CLAIM)
        if frozen:
            self.world.it_freezes_or_thaws(frozen)
        self.world.it_is_to_own_the_shard("bob")
        self.well("bob")
        self.alive(*alive, seconds=CLAIMS_SECONDS + 0.5)
        self.well("bob")
        assert self.world.starting() == ["bob"]

    def confirms(self, name: str) -> None:
        for _ in range(3):
            self.world.it_confirms_its_claim(name)
            self.world.all_arrives(name)
            self.world.it_writes_the_claim_again_that_the_bucket_has_lost(name)
            self.world.all_arrives(name)
            self.world.never_two_instances_start_messages_of_one_shard()


def test_who_was_buried_does_not_write_its_claim_again_that_the_bucket_lost_afterwards() -> None:
    story = Story()
    world = story.world
    world.it_freezes_or_thaws("ann")
    world.it_reads("bob", "ann", 0)
    story.alive("bob", seconds=3.0)
    world.time_passes(0.2)
    story.buries("bob", "ann")
    world.it_is_to_own_the_shard("bob")
    story.well("bob")
    assert world.starting() == ["bob"]
    world.the_bucket_loses("all")
    world.it_freezes_or_thaws("ann")
    story.well("bob")
    for _ in range(2):
        world.it_renews("ann")
        world.all_arrives("ann")
    world.it_pings("ann")
    world.its_pings_reach_the_server("ann")
    world.it_hears_the_answers("ann")
    story.confirms("ann")
    assert world.all["ann"].held is None


def test_a_claim_that_was_lost_and_taken_while_its_owner_slept_is_not_worked_on_when_it_wakes() -> None:
    story = Story()
    world = story.world
    story.bob_takes_the_claim_that_the_bucket_loses("bob", frozen="ann")
    world.it_freezes_or_thaws("ann")
    story.alive("ann", "bob", seconds=0.5)
    story.confirms("ann")


def test_an_owner_that_cannot_read_its_lost_claim_starts_nothing_once_another_may_take_it() -> None:
    story = Story()
    story.bob_takes_the_claim_that_the_bucket_loses("ann", "bob")
    story.confirms("ann")


def test_a_claim_that_was_lost_twice_is_not_taken_before_the_second_loss_is_old_enough() -> None:
    story = Story()
    world = story.world
    world.the_bucket_loses(CLAIM)
    world.it_is_to_own_the_shard("bob")
    story.well("bob")
    story.alive("ann", "bob", seconds=CLAIMS_SECONDS - 1.0)
    story.confirms("ann")
    world.it_reads("ann", CLAIM, 0)
    assert world.starting() == ["ann"]
    world.the_bucket_loses(CLAIM)
    story.alive("ann", "bob", seconds=1.5)
    story.well("bob")
    assert world.starting() == ["ann"]


def test_a_burial_is_of_the_lease_that_stood_when_the_first_probe_was_sent() -> None:
    story = Story()
    world = story.world
    world.it_is_to_own_the_shard("bob")
    world.its_server_drops_its_connection("ann")
    world.it_probes("bob", "ann")
    world.it_learns_that_its_connection_is_gone("ann")
    story.alive("bob", seconds=0.5)
    world.share = "ann"
    story.well("ann")
    assert world.starting() == ["ann"]
    world.it_reads("bob", "ann", 0)
    world.its_server_drops_its_connection("ann")
    world.it_probes("bob", "ann")
    world.it_buries("bob", "ann")
    world.all_arrives("bob")
    world.it_is_to_own_the_shard("bob")
    story.well("bob")
    assert world.bucket["ann"].value == "alive"


def test_a_lease_that_was_missing_twice_is_not_buried_for_the_time_in_between() -> None:
    story = Story()
    world = story.world
    world.the_bucket_loses("ann")
    world.it_reads("bob", "ann", 0)
    story.alive("ann", "bob", seconds=3.5)
    story.confirms("ann")
    world.the_bucket_loses("ann")
    world.it_is_to_own_the_shard("bob")
    world.it_buries("bob", "ann")
    world.all_arrives("bob")
    story.well("bob")
    assert world.bucket["ann"].value != "dead"
