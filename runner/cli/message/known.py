"""What is known of the project's functions: from the instances that run, else from the code at hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import structs

from runner.bindings import Binding
from runner.core import identity
from runner.jetstream.ownstreams import AGAIN
from runner.jetstream.readers import KnownFunction


def known(
    stream: str, project: str, code: Sequence[Binding] | None, snapshots: Sequence[Mapping[str, Any]]
) -> list[KnownFunction]:
    """The functions that read a stream, or may read it: a function that names no stream is among them, and its subject decides."""
    found = {each.function: each for binding in code or () if (each := _bound(binding, project)) is not None}
    for snapshot in snapshots:
        for function, part in snapshot["functions"].items():
            if not part.get("subject"):
                continue  # the instance is of an earlier release
            before = found.get(function)
            told = KnownFunction(
                function=function,
                label=part.get("label") or function,
                subject=part["subject"],
                stream=part["stream"],
                durable="" if part.get("ordered") else part["durable"],
                ordered=bool(part.get("ordered")),
                key_positions=tuple(part.get("key_positions") or ()),
            )
            same = before is not None and before.subject == told.subject
            found[function] = (
                told
                if before is None or not same
                else structs.replace(
                    told,
                    joins=before.joins,
                    attempts=before.attempts,
                    output=before.output,
                    publishes=before.publishes,
                )
            )
    return [each for each in found.values() if each.stream in ("", stream)]


def _bound(binding: Binding, project: str) -> KnownFunction | None:
    if binding.answers is not None:
        return None
    scheduled = binding.schedule is not None
    return KnownFunction(
        function=binding.function,
        label=binding.label,
        subject=identity.tick_subject(project, binding.function) if scheduled else binding.subject.wildcard,
        stream=AGAIN if scheduled else binding.stream or "",
        durable=binding.durable or "",
        ordered=bool(binding.ordered_by),
        key_positions=binding.key_positions,
        joins=binding.joins is not None,
        attempts=binding.retry.attempts,
        output=_template(binding),
        publishes=_takes_context(binding),
    )


def _template(binding: Binding) -> str:
    if binding.output is None:
        return ""
    places = dict(zip(binding.subject.names, binding.subject.positions, strict=True))
    tokens = binding.output.text.split(".")
    return ".".join(f"{{{places[each[1:-1]]}}}" if each.startswith("{") else each for each in tokens)


def target(known: KnownFunction, subject: str) -> str:
    """The subject of a function's output for a message of `subject`; empty if it has no output, or the subject is not known."""
    tokens = subject.split(".")
    made = []
    for each in known.output.split(".") if known.output else ():
        if each.startswith("{"):
            place = int(each[1:-1])
            if place >= len(tokens):
                return ""
            made.append(tokens[place])
        else:
            made.append(each)
    return ".".join(made)


def _takes_context(binding: Binding) -> bool:
    """Whether a function may publish with a context: its handler takes one, or it has hooks."""
    return binding.signature.context is not None or bool(binding.around)
