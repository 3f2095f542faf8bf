"""The durables of the functions: which stream each one reads, what differs there, and which have no function left."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from runner.bindings import Binding
from runner.core import identity
from runner.core.capture import Catchment, capture
from runner.core.plan import ConsumerPlan, function_of
from runner.core.streamconfig import Change
from runner.errors import JetrunnerError
from runner.jetstream.connection import Connection
from runner.jetstream.consumer import IMMUTABLE, config, differences
from runner.jetstream.inventory import consumers_on, real_streams
from runner.jetstream.ownstreams import AGAIN


def uncaptured(bindings: Iterable[Binding], streams: Sequence[Catchment]) -> list[JetrunnerError]:
    """What keeps functions from reading their subjects or publishing their outputs: one error each."""
    found: list[JetrunnerError] = []
    for binding in bindings:
        try:
            capture(binding.subject.wildcard, streams, chosen=binding.stream)
        except JetrunnerError as error:
            found.append(_blamed(binding, "", error))
        if binding.output is not None:
            try:
                capture(binding.output.wildcard, streams, publishing=True)
            except JetrunnerError as error:
                found.append(_blamed(binding, "its output: ", error))
    return found


async def plan_consumers(
    connection: Connection, project: str, bindings: Sequence[Binding], streams: Sequence[Catchment]
) -> tuple[ConsumerPlan, ...]:
    """The durables as `runner run` would make them, then the strays; `bindings` must all be captured."""
    real = {name: await consumers_on(connection, name) for name in await real_streams(connection)}
    plans: list[ConsumerPlan] = []
    for binding in bindings:
        stream = capture(binding.subject.wildcard, streams, chosen=binding.stream)
        durable = binding.durable or identity.durable(project, binding.function)
        info = next((each for each in real.get(stream, ()) if each["name"] == durable), None)
        plans.append(_plan(binding, stream, durable, info))
    expected = {(plan.stream, plan.name) for plan in plans}
    expected |= {(AGAIN, identity.durable(project, plan.function)) for plan in plans}
    for stream, infos in sorted(real.items()):
        for info in infos:
            function = function_of(info["name"], project)
            if stream == AGAIN and not _subject(info).startswith(f"again.{project}."):
                continue  # no function's: the relay of delayed messages
            if function is not None and (stream, info["name"]) not in expected:
                plans.append(
                    ConsumerPlan(info["name"], stream, function, "stray", _subject(info), _pending(info))
                )
    return tuple(plans)


def _plan(binding: Binding, stream: str, durable: str, info: dict[str, Any] | None) -> ConsumerPlan:
    subject = binding.subject.wildcard
    if info is None:
        return ConsumerPlan(durable, stream, binding.function, "create", subject)
    wanted = msgspec.to_builtins(config(durable, subject, binding.deliver, binding.function))
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


def _subject(info: dict[str, Any]) -> str:
    return str(info["config"].get("filter_subject") or ", ".join(info["config"].get("filter_subjects") or ()))


def _pending(info: dict[str, Any]) -> int:
    return int(info["num_pending"]) + int(info["num_ack_pending"])


def _blamed(binding: Binding, what: str, error: JetrunnerError) -> JetrunnerError:
    """The same error, with the function it is about."""
    return type(error)(f"{binding.file}:{binding.line}: {binding.function}: {what}{error}", hint=error.hint)
