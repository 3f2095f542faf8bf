"""The least permissions that a NATS user needs: for `runner run`, for publishers and askers, and for commands that operate a project.

Rule 1: only what is needed stands here: `tests/guarantees/test_permissions.py` takes each away and sees something break.
Rule 2: where a part of a subject is not known before (a shard, an instance, a message), `*` or `>` stands for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from msgspec import Struct

from runner.core import fence, identity, service
from runner.jetstream import storyrights
from runner.jetstream.kv import PREFIX
from runner.jetstream.ownstreams import AGAIN, BUCKET_STREAM, DEADLETTERS, ERRORS, GATHER, PARKED, STREAMS
from runner.jetstream.permission import Permission, api, bucket, once, publish, subscribe

ANY = "*"
"""Stands for a stream that is not known."""


class FunctionNeeds(Struct, frozen=True, kw_only=True):
    """The facts of a function that decide which permissions it needs."""

    function: str
    stream: str
    durable: str
    """The durable of a function that keeps no order."""
    ordered: bool = False
    parks: bool = False
    ages: bool = False
    """Whether the function has a `max_age`."""
    joins: bool = False
    """Whether the function joins the parts of split events."""
    scheduled: bool = False
    """Whether the function fires by a schedule: then it reads only our own stream."""
    answers: str = ""
    """The subject on which the function answers requests, with `*` for each token: then it reads no stream."""
    routed: bool = False
    """Whether the function answers HTTP requests: then it reads no stream, and only needs to publish."""
    output: str = ""
    """The subject of its outputs, with `*` for each token."""
    output_stream: str = ANY

    @property
    def reads(self) -> bool:
        """Whether the function reads a stream, one of users or ours."""
        return not self.answers and not self.routed

    @property
    def consumer(self) -> str:
        """The durables, as a permission names them: names of shards' durables differ within one token."""
        return ANY if self.ordered else self.durable


def of_run(project: str, readers: Sequence[FunctionNeeds], inbox: str) -> list[Permission]:
    """The permissions of `runner run` with these functions."""
    reading = [each for each in readers if each.reads]
    found = [*_process(project, inbox), *(each for reader in reading for each in _function(project, reader))]
    found += _answering(project, readers)
    found += [
        publish(each.output, f"outputs of {each.function}") for each in readers if each.routed and each.output
    ]
    if any(reader.ordered for reader in readers):
        found += _order(project)
    return once(found)


def of_publisher(project: str, subjects: Iterable[str], inbox: str) -> list[Permission]:
    """The permissions of `runner publish` and `runner.connect()`, for these subjects."""
    return once(
        [
            *(publish(each, "the messages") for each in subjects),
            publish(f"$JETRUNNER.delayed.{project}.*", "messages with a delay: delay=, at="),
            api(f"STREAM.INFO.{AGAIN}", "the server's clock, which delays are counted by"),
            api("STREAM.NAMES", "whether the cluster has a leader"),
            subscribe(f"{inbox}.>", "answers"),
        ]
    )


def of_asker(subjects: Iterable[str], inbox: str) -> list[Permission]:
    """The permissions of `ctx.request`, `app.request` and `runner request` on these subjects, with balancing and failover."""
    return once(
        [
            *(publish(each, "requests where no instance is known") for each in subjects),
            *(
                publish(service.instance_subject(ANY, ANY, each), "requests to one instance")
                for each in subjects
            ),
            publish("$SRV.INFO", "which instances answer which subjects"),
            publish(service.control_subjects("PING", ANY, ANY)[2], "whether an instance that is late lives"),
            subscribe(service.NEWS, "instances that come and go"),
            subscribe(f"{inbox}.>", "answers"),
        ]
    )


def of_operator(
    project: str, readers: Sequence[FunctionNeeds], streams: Mapping[str, bool], inbox: str
) -> list[Permission]:
    """The permissions of `plan`, `apply`, `check`, `status`, `message`, `deadletter`, `parked` and `shard`, with these streams.

    `streams` tells of each whether it has shards or interest retention: then durables are changed with it.
    """
    found = [*_commands(project, inbox)]
    for name, changes_durables in streams.items():
        if changes_durables:
            found.append(api(f"CONSUMER.CREATE.{name}.{ANY}", "apply and shard resize: durables go with it"))
        found += [
            api(f"STREAM.INFO.{name}", "plan, apply and check; shards"),
            api(f"STREAM.CREATE.{name}", "apply"),
            api(f"STREAM.UPDATE.{name}", "apply; shard resize"),
        ]
    if any(reader.scheduled for reader in readers):
        found += [
            publish(identity.schedule_subject(project, ANY), "apply: schedules"),
            publish(identity.tick_subject(project, ANY), "schedule fire"),
            api(f"STREAM.CREATE.{AGAIN}", "apply, where nothing has run yet: schedules stand there"),
        ]
    for reader in readers:
        if not reader.ordered:
            again = identity.durable(project, reader.function)
            found += [
                publish(identity.again_subject(project, reader.function), "deadletter redrive"),
                api(f"CONSUMER.INFO.{AGAIN}.{again}", "whether the function takes what is redriven to it"),
            ]
    ordered = {reader.stream: None for reader in readers if reader.ordered}
    if ordered:
        found += [*_ordered_commands(project)]
    found += storyrights.rights(streams, parks=bool(ordered), joins=any(each.joins for each in readers))
    return once(found)


def _answering(project: str, readers: Iterable[FunctionNeeds]) -> Iterator[Permission]:
    answering = {reader.answers: reader.function for reader in readers if reader.answers}
    if not answering:
        return
    for subject, function in answering.items():
        yield subscribe(subject, f"requests to {function}")
    own = service.instance_subject(project, ANY, ">")
    yield subscribe(own, "requests to this instance, of those who balance")
    verbs: tuple[service.Verb, ...] = ("PING", "INFO", "STATS")
    for verb in verbs:
        for subject in service.control_subjects(verb, project, ANY):
            yield subscribe(subject, "`nats micro`, and who looks for instances")
    yield publish(service.NEWS, "tells who balances that this instance is here, or ends")
    yield publish("_INBOX.>", "answers to requests")


def _process(project: str, inbox: str) -> Iterator[Permission]:
    relay = identity.durable(project, "-relay")
    yield api("INFO", "the version of the server")
    yield api("STREAM.NAMES", "whether the cluster has a leader")
    yield api("STREAM.LIST", "which stream captures which subject")
    own = [name for name in STREAMS if name not in (GATHER, ERRORS)]
    for name in own:
        yield api(f"STREAM.CREATE.{name}", "our own streams are made where they are missing")
        yield api(f"STREAM.INFO.{name}", "whether it is the stream of before, or an older copy of it")
    for name in own:
        yield api(
            f"STREAM.MSG.GET.{name}", "whether what was settled stands in it; reads our bucket at its leader"
        )
    yield api(f"STREAM.PURGE.{BUCKET_STREAM}", "removes from our bucket what is settled")
    yield from storyrights.keeping(project)
    yield bucket("floor", project, "how far each durable has come")
    yield bucket("start", project, "starts of messages that may kill their process")
    yield bucket("minutes", project, "what was done in each minute, for `runner status`")
    for subject in ("CREATE", "MSG.NEXT"):
        yield api(f"CONSUMER.{subject}.{AGAIN}.{relay}", "delayed messages that are due")
    yield publish(f"$JS.ACK.{AGAIN}.{relay}.>", "delayed messages that are due")
    yield api(f"STREAM.MSG.DELETE.{AGAIN}", "removes delayed messages that were published")
    yield publish(f"$JETRUNNER.delayed.{project}.*", "ctx.publish with delay= or at=")
    yield publish(f"jetrunner.{project}.status", "what other instances read, before a durable is changed")
    yield publish(
        identity.alive_subject(project, ANY), "whether an instance that has started a message lives"
    )
    yield publish(f"{inbox}.>", "answers to other instances and to commands; pings to itself")
    yield subscribe(f"{inbox}.>", "answers")
    yield subscribe(f"jetrunner.{project}.status", "questions of `runner status` and of other instances")
    yield subscribe(identity.alive_subject(project, ANY), "questions whether this instance lives")


def _function(project: str, reader: FunctionNeeds) -> Iterator[Permission]:
    name, stream, consumer = reader.function, reader.stream, reader.consumer
    if reader.scheduled:
        yield publish(
            identity.schedule_subject(project, name), f"the schedule of {name}, where it is missing"
        )
        yield publish(f"{PREFIX}{identity.firings_key(project, name)}", f"each firing of {name} runs once")
    else:
        yield from _reading(name, stream, consumer)
    yield publish(identity.dead_subject(project, name), f"dead letters of {name}")
    if reader.output:
        yield publish(reader.output, f"outputs of {name}")
        for ask in ("INFO", "MSG.GET"):
            yield api(
                f"STREAM.{ask}.{reader.output_stream}",
                f"whether outputs of {name} stand, or were lost with an older store",
            )
    if reader.joins:
        yield from _joining(project, name)
    if reader.ages:
        yield bucket("error", project, "what a message failed with, where it may grow too old")
    yield subscribe(f"{PREFIX}parked.{project}.{name}.>", f"keys of {name} that are parked")
    again = identity.durable(project, name)
    if reader.ordered:
        yield from _ordered_function(project, reader, again)
        return
    why = f"{'firings of' if reader.scheduled else 'dead letters that are redriven to'} {name}"
    yield bucket("reading", project, "one instance at a time changes a function's durables")
    for subject in ("CREATE", "INFO", "MSG.NEXT"):
        yield api(f"CONSUMER.{subject}.{AGAIN}.{again}", why)
    yield publish(f"$JS.ACK.{AGAIN}.{again}.>", why)
    yield api(f"STREAM.PURGE.{AGAIN}", "removes what was redriven and is settled")
    for place, durable in dict.fromkeys(((stream, consumer), (AGAIN, again))):
        yield subscribe(
            f"$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.{place}.{durable}",
            f"what the server gives up of {name}, where somebody has limited deliveries",
        )


def _joining(project: str, name: str) -> Iterator[Permission]:
    yield api(f"STREAM.CREATE.{GATHER}", "our stream of parts is made where it is missing")
    yield api(f"STREAM.INFO.{GATHER}", "our stream of parts is made where it is missing")
    yield api(f"STREAM.MSG.GET.{GATHER}", "how many parts of an event are here")
    yield api(f"DIRECT.GET.{GATHER}", "the parts of an event, many at once")
    yield api(f"STREAM.PURGE.{GATHER}", "removes the parts of an event that is joined")
    yield publish(identity.event_subject(project, name, ">"), f"parts that {name} joins")
    yield publish(identity.expiry_subject(project, name, ANY), f"when {name} no longer waits for parts")


def _reading(name: str, stream: str, consumer: str) -> Iterator[Permission]:
    yield api(f"STREAM.INFO.{stream}", "whether it is the stream of before, or an older copy of it")
    yield api(f"STREAM.MSG.GET.{stream}", "whether what was settled stands in it; what waits behind its key")
    yield api(f"CONSUMER.LIST.{stream}", "the durables of before")
    for subject in ("CREATE", "INFO", "MSG.NEXT"):
        yield api(f"CONSUMER.{subject}.{stream}.{consumer}", f"{name} reads its messages")
    yield publish(f"$JS.ACK.{stream}.{consumer}.>", f"{name} settles its messages")


def _ordered_function(project: str, reader: FunctionNeeds, again: str) -> Iterator[Permission]:
    name, stream = reader.function, reader.stream
    yield api(f"CONSUMER.DELETE.{stream}.{ANY}", "durables of shards that are drained, after a resize")
    yield api(f"CONSUMER.INFO.{AGAIN}.{again}", f"whether anything was redriven to {name}")
    yield subscribe(identity.again_subject(project, name), f"what is redriven to {name}")
    if reader.output:
        fences = fence.subject(reader.output_stream, project, name, ANY, ANY)
        yield publish(fences, f"fences: outputs of {name} by an owner that has lost its shard are refused")
    if reader.parks:
        yield publish(identity.parked_subject(project, name), f"messages of {name} whose key is parked")


def _order(project: str) -> Iterator[Permission]:
    yield api(f"DIRECT.GET.{BUCKET_STREAM}", "leases, claims and settlements, many at once")
    for kind, why in (
        ("member", "the lease of each instance"),
        ("claim", "who owns which shard"),
        ("generation", "how many shards there are"),
        ("settled", "what was settled in each shard"),
        ("failures", "attempts of each message that has failed"),
        ("parked", "keys that are parked, or on their way back"),
    ):
        yield bucket(kind, project, why)
    for kind in ("claim", "generation"):
        yield subscribe(f"{PREFIX}{kind}.{project}.>", "shards that change their owner, or their number")
    for kind, why in (("members", "instances come and go"), ("resized", "another number of shards")):
        yield subscribe(f"jetrunner.{project}.{kind}", why)
    yield publish(f"jetrunner.{project}.members", "instances come and go")
    yield api(f"DIRECT.GET.{DEADLETTERS}", "dead letters of a key that comes back")
    for name in (DEADLETTERS, PARKED):
        yield api(f"STREAM.MSG.DELETE.{name}", "what came back to its key and is settled")


def _commands(project: str, inbox: str) -> Iterator[Permission]:
    yield api("INFO", "the version of the server")
    yield api("STREAM.NAMES", "whether the cluster has a leader")
    yield api("STREAM.LIST", "plan, apply, check and status")
    for name in (AGAIN, DEADLETTERS, PARKED, BUCKET_STREAM):
        yield api(f"STREAM.INFO.{name}", "status, deadletter and parked")
    yield api(f"STREAM.INFO.{GATHER}", "doctor: what functions that are gone have left")
    yield api(f"STREAM.MSG.GET.{AGAIN}", "plan, apply, status and schedule list: schedules")
    yield api(f"STREAM.PURGE.{AGAIN}", "apply removes schedules whose function is gone")
    yield api(f"CONSUMER.LIST.{ANY}", "status, plan and apply look for consumers on every stream")
    yield api(f"DIRECT.GET.{DEADLETTERS}", "deadletter list, redrive and drop")
    yield api(f"STREAM.MSG.GET.{DEADLETTERS}", "deadletter show, redrive and drop")
    yield api(f"STREAM.MSG.DELETE.{DEADLETTERS}", "deadletter redrive and drop; parked skip")
    yield api(f"STREAM.PURGE.{DEADLETTERS}", "deadletter drop --all")
    yield api(f"STREAM.MSG.GET.{BUCKET_STREAM}", "which keys are parked")
    yield api(
        f"DIRECT.GET.{BUCKET_STREAM}", "status: what was done in each minute; shard list and resize: owners"
    )
    yield publish(f"jetrunner.{project}.status", "status; which instance runs a function, or has a message")
    yield subscribe(f"{inbox}.>", "answers")


def _ordered_commands(project: str) -> Iterator[Permission]:
    yield publish(f"{PREFIX}parked.{project}.>", "parked retry and skip; redrive of one that keeps order")
    yield publish(f"jetrunner.{project}.resized", "shard resize")
