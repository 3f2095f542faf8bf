"""The control subjects of an instance, as ADR-32 of NATS has them: `nats micro ls|info|stats|ping` asks there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import msgspec

from runner.core import service
from runner.core.service import MARK, QUEUE, Endpoint, Info, Verb
from runner.runtime.runtime import Runtime
from runner.services.answers import Answers
from runner.services.responder import Responder

_TYPE = "io.nats.micro.v1.{}_response"


class Control:
    """Answers the questions of `nats micro` for one process."""

    def __init__(
        self, runtime: Runtime, responders: Sequence[Responder], answers: Answers, release: str
    ) -> None:
        """`release` is the project's version, as Python writes it."""
        self._runtime = runtime
        self._wire = runtime.connection.wire
        self._responders = responders
        self._answers = answers
        self._gone = False
        """Whether the instance takes no more requests: then its info lists no functions."""
        self._started = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        self._version = service.semantic(release)
        self._metadata = {MARK: service.semantic(_own()), "weight": f"{runtime.settings.weight:g}"}
        self._identity: dict[str, Any] = {
            "name": runtime.project,
            "id": runtime.instance,
            "version": self._version,
            "metadata": self._metadata,
        }

    async def open(self) -> None:
        """Answer questions from now on; the subscriptions end with the connection."""
        tells: dict[Verb, Callable[[], dict[str, Any]]] = {
            "PING": self._ping,
            "INFO": self._info,
            "STATS": self._stats,
        }
        for verb, tell in tells.items():
            for subject in service.control_subjects(verb, self._runtime.project, self._runtime.instance):
                await self._wire.subscribe(subject, partial(self._asked, tell))

    def announce(self, *, gone: bool = False) -> None:
        """Announce to all askers that balance that this instance is here, or that it takes no more requests."""
        told = msgspec.json.encode(msgspec.structs.replace(self.info(), gone=gone))
        self._gone = gone
        self._wire.publish(service.NEWS.encode(), told, b"")
        self._wire.flush()

    def info(self) -> Info:
        """The instance's info: its identity and its functions."""
        return Info(
            name=self._runtime.project,
            id=self._runtime.instance,
            version=self._version,
            metadata=self._metadata,
            endpoints=[
                Endpoint(
                    name=each.binding.function,
                    subject=each.binding.subject.wildcard,
                    queue_group=QUEUE,
                    metadata={"idempotent": "true" if _answers(each).idempotent else "false"},
                )
                for each in self._responders
                if not self._gone
            ],
        )

    def _asked(
        self,
        tell: Callable[[], dict[str, Any]],
        _subject: bytes,
        reply: bytes,
        _header: bytes | None,
        _body: bytes,
    ) -> None:
        if self._answers.may(reply):
            self._answers.send(reply, msgspec.json.encode(tell()))

    def _ping(self) -> dict[str, Any]:
        return {"type": _TYPE.format("ping"), **self._identity}

    def _info(self) -> dict[str, Any]:
        told: dict[str, Any] = msgspec.to_builtins(self.info())
        del told["gone"]  # only announcements have it
        return told

    def _stats(self) -> dict[str, Any]:
        return {
            "type": _TYPE.format("stats"),
            **self._identity,
            "started": self._started,
            "endpoints": [
                {
                    "name": each.binding.function,
                    "subject": each.binding.subject.wildcard,
                    "queue_group": QUEUE,
                    **each.stats.told(),
                    "data": {
                        "in_flight": each.running,
                        "queued": each.queued,
                        "overloaded": each.stats.overloaded,
                        "expired": each.stats.not_started["expired"],
                        "held": each.held,
                    },
                }
                for each in self._responders
            ],
        }


def _answers(responder: Responder) -> service.ReplyOptions:
    assert responder.binding.answers is not None
    return responder.binding.answers


def _own() -> str:
    try:
        return version("jetrunner")
    except PackageNotFoundError:  # the package is run from its sources
        return "0"
