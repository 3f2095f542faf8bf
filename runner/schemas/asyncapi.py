"""An AsyncAPI 3.0 document: which subjects a project's functions read, which they publish to, and what they answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from runner.bindings import Binding
from runner.core.subject import Template
from runner.discovery import Project
from runner.schemas.described import Described, described, media, without_none
from runner.schemas.types import Types

VERSION = "3.0.0"
CONTENT = {"json": "application/json", "text": "text/plain", "bytes": "application/octet-stream"}

_WILD = ("*", ">")
_UNFIT = re.compile(r"[^A-Za-z0-9_-]+")


class _Function(Struct, frozen=True):
    """A function, and what its handler says of itself."""

    binding: Binding
    said: Described

    @property
    def takes(self) -> Any:
        """The annotation of the body that the function reads; `Any` if the function takes no body."""
        body = self.binding.signature.body
        return Any if body is None else body.annotation

    @property
    def makes(self) -> Any:
        """The annotation of the function's outputs; None is left out, because a handler that returns None makes no output."""
        return without_none(self.said.returns)


def document(project: Project) -> dict[str, Any]:
    """The AsyncAPI document of a project.

    It has what functions with `@consume`, `@gather` and `@reply` read, and the outputs of all functions, those with `@cron` and
    `@route` included.
    """
    functions = [_Function(each, described(each)) for each in project.functions]
    types = Types(
        [annotation for each in functions for annotation in (each.takes, each.said.returns, each.makes)]
    )
    building = _Building(types)
    for each in functions:
        building.add(each)
    return {
        "asyncapi": VERSION,
        "info": {"title": project.name, "version": project.version},
        "defaultContentType": "application/json",
        "channels": dict(sorted(building.channels.items())),
        "operations": building.operations,
        "components": {"schemas": types.components},
    }


class _Building:
    """Collects channels and operations; each subject becomes one channel for all functions that read it or publish to it."""

    def __init__(self, types: Types) -> None:
        self.types = types
        self.channels: dict[str, dict[str, Any]] = {}
        self.operations: dict[str, dict[str, Any]] = {}
        self._names: dict[str, str] = {}

    def add(self, function: _Function) -> None:
        binding = function.binding
        if binding.route is None and binding.schedule is None:
            self._receive(function)
        if binding.output is not None:
            self._send(function, binding.output)

    def _receive(self, function: _Function) -> None:
        binding = function.binding
        channel = self._channel(binding.subject)
        message = self._message(channel, binding.function, function.takes)
        operation: dict[str, Any] = {
            "action": "receive",
            "channel": _reference("channels", channel),
            "summary": function.said.summary,
            "messages": [message],
        }
        if function.said.description:
            operation["description"] = function.said.description
        if binding.answers is not None:
            answers = f"{channel}-reply"
            self.channels[answers] = {"address": None, "messages": {}}
            answer = self._message(answers, binding.function, function.said.returns)
            operation["reply"] = {"channel": _reference("channels", answers), "messages": [answer]}
        self.operations[binding.function] = operation

    def _send(self, function: _Function, output: Template) -> None:
        name = function.binding.function
        channel = self._channel(output)
        message = self._message(channel, f"{name}-output", function.makes)
        self.operations[f"{name}-output"] = {
            "action": "send",
            "channel": _reference("channels", channel),
            "summary": f"What {name} makes.",
            "messages": [message],
        }

    def _channel(self, subject: Template) -> str:
        """The name of a subject's channel. Subjects that differ only in the names of their tokens share the channel of the first."""
        known = self._names.get(subject.wildcard)
        if known is not None:
            return known
        name = _UNFIT.sub("-", subject.text).strip("-") or "all"
        while name in self.channels:
            name += "-"
        address, parameters = _address(subject)
        self.channels[name] = {"address": address, "messages": {}}
        if parameters:
            self.channels[name]["parameters"] = {each: {} for each in parameters}
        self._names[subject.wildcard] = name
        return name

    def _message(self, channel: str, name: str, annotation: Any) -> dict[str, str]:
        kind = media(annotation)
        message = {
            "contentType": CONTENT[kind],
            "payload": {} if kind == "bytes" else self.types.of(annotation),
        }
        self.channels[channel]["messages"][name] = message
        return {"$ref": f"#/channels/{channel}/messages/{name}"}


def _address(subject: Template) -> tuple[str, Sequence[str]]:
    """A subject's address, and the names of its parameters: each bare wildcard becomes a parameter with a name made up here."""
    tokens, names = subject.text.split("."), list(subject.names)
    for number, token in enumerate(tokens):
        if token in _WILD:
            name = f"token{number + 1}"
            tokens[number] = f"{{{name}}}"
            names.append(name)
    return ".".join(tokens), names


def _reference(kind: str, name: str) -> dict[str, str]:
    return {"$ref": f"#/{kind}/{name}"}
