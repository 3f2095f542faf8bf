"""The plan of the functions' durables: the stream of each, its differences, and durables that no function has any more."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from runner.bindings import Binding
from runner.core import identity, sharding
from runner.core.quantity import counted
from runner.core.sharding import Sharding
from runner.core.streams.capture import StreamSubjects, capture, covered, require_confirmation, require_order
from runner.core.streams.config import Change
from runner.core.streams.plan import ALSO, ConsumerPlan, function_of
from runner.core.subject import covers
from runner.errors import JetrunnerError, UsageError
from runner.jetstream import interest, newcomers
from runner.jetstream.connection import Connection
from runner.jetstream.consumer import FILTERS, IMMUTABLE, config, differences, filters_of, of_shards, update
from runner.jetstream.inventory import consumers_on, real_streams, subjects_of
from runner.jetstream.ownstreams import AGAIN

_SHARD = re.compile(r"-\d+-\d+$")
"""The end of the name of a shard's durable."""
FORGET = "no function is called {0} any more: `runner function forget {0}` removes what is left of it"


def uncaptured(bindings: Iterable[Binding], streams: Sequence[StreamSubjects]) -> list[JetrunnerError]:
    """The errors that keep functions from reading their subjects, or from publishing their outputs."""
    found: list[JetrunnerError] = []
    for binding in [each for each in bindings if each.answers is None]:
        try:
            if binding.reads_stream:
                name = capture(binding.subject.wildcard, streams, chosen=binding.stream)
                stream = next(each for each in streams if each.name == name)
                fits(binding, stream)
                _require_choice(binding, stream, streams)
        except JetrunnerError as error:
            found.append(_blamed(binding, "", error))
        if binding.output is not None:
            try:
                name = capture(binding.output.wildcard, streams, publishing=True)
                require_confirmation(next(each for each in streams if each.name == name))
            except JetrunnerError as error:
                found.append(_blamed(binding, "its output: ", error))
    return found


def fits(binding: Binding, stream: StreamSubjects) -> None:
    """Check that a function can read a stream by its shards, and keep its order there. Raises UsageError."""
    require_order(stream, binding.subject, binding.ordered_by)
    if stream.sharding is not None and not binding.ordered_by:
        try:
            sharding.filters(binding.subject.wildcard)
        except ValueError as error:
            raise UsageError(f"{stream.name} is sharded: {error}") from None


def _require_choice(binding: Binding, stream: StreamSubjects, streams: Sequence[StreamSubjects]) -> None:
    """Require an ordered function to choose its stream, if the project has a sharded copy of it. Raises UsageError."""
    if not binding.ordered_by or binding.stream is not None or stream.sharding is not None:
        return
    for copy in streams:
        shards = copy.file and copy.sharding is not None and not copy.subjects
        if shards and covered(copy.stored or (), binding.subject.wildcard):
            raise UsageError(
                f"{stream.name} is not sharded, but {copy.name} ({copy.file}) is, and copies its subject",
                hint=f'choose one: stream="{copy.name}" or stream="{stream.name}"',
            )


async def read_shards(connection: Connection, stream: str, project: str, after: Mapping[str, Any]) -> None:
    """Have the project's durables read a stream's shards before it has any; `after` is its configuration with shards.

    A durable passes over a message for good if its filter does not match when the message comes, even if the filter changes later.
    """
    for info in await consumers_on(connection, stream):
        real = info["config"]
        function = function_of(info["name"], project)
        if function is None:
            continue  # it is not the project's: the plan refuses it
        if _SHARD.search(info["name"]):  # generation 0 of an ordered function: messages before the shards
            if interest.forgets(after):
                await _stand(connection, stream, project, function, real, after)
            continue
        try:
            wanted = sorted(
                {each for text in filters_of(real) for each in sharding.filters(sharding.original(text))}
            )
        except ValueError as error:
            raise UsageError(f"consumer {info['name']} on {stream}: {error}") from None
        if wanted and wanted != sorted(filters_of(real)):
            await update(connection, stream, real, {"filter_subjects": (None, wanted)})


async def _stand(
    connection: Connection,
    stream: str,
    project: str,
    function: str,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
) -> None:
    shards, start = sharding.read(after), int(before.get("opt_start_seq") or 0)
    for subject in filters_of(before) if shards is not None else ():
        assert shards is not None
        wanted = of_shards(project, function, subject, shards, start)
        await interest.stand(connection, stream, wanted)


async def plan_consumers(
    connection: Connection, project: str, bindings: Sequence[Binding], streams: Sequence[StreamSubjects]
) -> tuple[ConsumerPlan, ...]:
    """The plans of the durables that `runner run` would make, then of those without a function. Streams must capture all `bindings`."""
    real = {name: await consumers_on(connection, name) for name in await real_streams(connection)}
    plans: list[ConsumerPlan] = []
    needed: set[tuple[str, str]] = set()
    reading = [each for each in bindings if each.consumes]
    for binding in reading:
        if binding.schedule is not None:
            continue
        stream = capture(binding.subject.wildcard, streams, chosen=binding.stream)
        sharded = next((each.sharding for each in streams if each.name == stream), None)
        found = real.get(stream, ())
        if binding.ordered_by:
            plans.append(
                _plan_ordered(binding, stream, identity.durable(project, binding.function), sharded, found)
            )
            continue
        durable = binding.durable or identity.durable(project, binding.function)
        info = next((each for each in found if each["name"] == durable), None)
        beside = [each for each in found if each["name"].startswith(f"{durable}-{ALSO}-")]
        whole = sharded is not None and sharding.reads_all(
            binding.subject.wildcard, next(each.subjects for each in streams if each.name == stream)
        )
        plan = _plan(binding, stream, durable, info, sharded=sharded is not None, whole=whole)
        plans.append(_beside(plan, info, beside))
        needed |= {
            (stream, each["name"]) for each in beside if covers(binding.subject.wildcard, _published(each))
        }
    expected = {(plan.stream, plan.name) for plan in plans}
    expected |= needed
    expected |= {(AGAIN, identity.durable(project, binding.function)) for binding in reading}
    for stream, infos in sorted(real.items()):
        for info in infos:
            function = function_of(info["name"], project)
            if stream == AGAIN and not _subject(info).startswith(f"$JETRUNNER.again.{project}."):
                continue  # the relay's durable for delayed messages
            if (
                function is not None
                and not {(stream, info["name"]), (stream, _family(info["name"]))} & expected
            ):
                gone = not any(each.function == function for each in bindings)
                note = FORGET.format(function) if gone else ""
                plans.append(
                    ConsumerPlan(
                        info["name"], stream, function, "stray", _subject(info), _pending(info), note=note
                    )
                )
    strays = [plan for plan in plans if plan.action == "stray"]
    return tuple(
        [
            await _succeeding(connection, project, plan, strays, bindings, real.get(plan.stream, ()))
            for plan in plans
        ]
    )


def _beside(
    plan: ConsumerPlan, info: Mapping[str, Any] | None, beside: Sequence[Mapping[str, Any]]
) -> ConsumerPlan:
    """The plan, with a note about a subject that differs from the durable's: the filter is not edited."""
    if info is None or not (real := _published(info)) or real == plan.subject:
        return plan
    changes = tuple(change for change in plan.changes if change.field not in FILTERS)
    if covers(plan.subject, real):
        if any(_published(each) == plan.subject for each in beside):
            return msgspec.structs.replace(plan, changes=changes, action="update" if changes else "same")
        note = f"{plan.subject} is more than it reads: a durable beside it reads the rest, from its beginning"
    elif covers(real, plan.subject):
        note = f"{plan.subject} is less than it reads: what it leaves waits in a durable beside it"
    else:
        note = f"it reads {real} now: that is left where it is, and {plan.subject} is read from its beginning"
    return msgspec.structs.replace(plan, note=note)


async def _succeeding(
    connection: Connection,
    project: str,
    plan: ConsumerPlan,
    strays: Sequence[ConsumerPlan],
    bindings: Sequence[Binding],
    durables: Sequence[Mapping[str, Any]],
) -> ConsumerPlan:
    """The plan, with a note where a new durable begins: where the function has come with another durable, or at the beginning."""
    if plan.action != "create":
        return plan
    own = [
        each
        for each in strays
        if (each.stream, each.function) == (plan.stream, plan.function) and ALSO not in each.name.split("-")
    ]
    if own:
        note = f"{plan.function} goes on where it has come with {own[0].name}"
        return msgspec.structs.replace(plan, note=note)
    binding = next(each for each in bindings if each.function == plan.function)
    waiting = await newcomers.stored(connection, plan.stream, plan.subject)
    if not waiting or binding.deliver == "new":
        return plan
    known = {each.function for each in bindings}
    note = newcomers.suspected(binding, waiting, project, known, durables)
    return msgspec.structs.replace(
        plan, note=note or f"what is stored will run: {counted(waiting, 'message')}"
    )


def _published(info: Mapping[str, Any]) -> str:
    """The subject that a durable reads, as published; empty if it reads several."""
    found = subjects_of(info["config"])
    return found[0] if len(found) == 1 else ""


def _plan_ordered(
    binding: Binding, stream: str, durable: str, sharded: Sharding | None, real: Sequence[dict[str, Any]]
) -> ConsumerPlan:
    """One plan for the durables of all shards. Those of earlier generations count, too: the function still drains them."""
    shards = sharded or Sharding()
    standing = [info for info in real if _family(info["name"]) == f"{durable}-*"]
    newest = [info for info in standing if info["name"].startswith(f"{durable}-{shards.generation}-")]
    others = {_published(info) for info in standing} - {"", binding.subject.wildcard}
    note = "it keeps order and reads {} now: what else {} holds counts from then on, and not what came before"
    return ConsumerPlan(
        f"{durable}-*",
        stream,
        binding.function,
        "create" if len(newest) < shards.count else "update" if others else "same",
        binding.subject.wildcard,
        sum(map(_pending, standing)),
        note=note.format(", ".join(sorted(others)), binding.subject.wildcard) if others else "",
    )


def _plan(
    binding: Binding, stream: str, durable: str, info: dict[str, Any] | None, *, sharded: bool, whole: bool
) -> ConsumerPlan:
    subject = binding.subject.wildcard
    if info is None:
        return ConsumerPlan(durable, stream, binding.function, "create", subject)
    wanted = msgspec.to_builtins(
        config(
            durable,
            subject,
            binding.deliver,
            binding.function,
            reads="stream" if whole else "shards" if sharded else "subject",
        )
    )
    changes = tuple(
        Change(
            field,
            real,
            declared,
            "unsafe" if field in IMMUTABLE else "safe",
            "the server cannot change it: it stays as it is" if field in IMMUTABLE else "",
        )
        for field, (real, declared) in differences(info["config"], wanted).items()
    )
    return ConsumerPlan(
        durable, stream, binding.function, "update" if changes else "same", subject, _pending(info), changes
    )


def _family(name: str) -> str:
    """`shop-charge-*` for the durable of any shard of the function; any other durable's own name."""
    return _SHARD.sub("-*", name)


def _subject(info: dict[str, Any]) -> str:
    return ", ".join(filters_of(info["config"]))


def _pending(info: dict[str, Any]) -> int:
    return int(info["num_pending"]) + int(info["num_ack_pending"])


def _blamed(binding: Binding, what: str, error: JetrunnerError) -> JetrunnerError:
    """The error, with the function that it is about."""
    return type(error)(f"{binding.place}: {what}{error}", hint=error.hint)
