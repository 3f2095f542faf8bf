"""Request/reply on the wire: subjects, headers and codes, and what instances tell of themselves (ADR-32 of NATS).

Rule 1: a request to the subject of a function goes to whichever instance NATS picks, by a queue group: any client can ask.
        Who balances asks the subject of one instance, which holds the function's own behind the instance's name.
Rule 2: an answer with `Jetrunner-Not-Started` tells that the handler has not begun: it is safe to ask another instance.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct

from runner.core import checked
from runner.core.checked import Instance, Line, Pattern, Project

QUEUE = "q"
"""The queue group of every function, as ADR-32 has it."""

DEADLINE = "Jetrunner-Deadline"
"""Milliseconds that are left to the asker: no clock is shared."""
ERROR = "Nats-Service-Error"
CODE = "Nats-Service-Error-Code"
NOT_STARTED = "Jetrunner-Not-Started"

NotStarted: TypeAlias = Literal["overloaded", "draining", "expired", "unknown"]
"""Why a handler has not begun: too many wait, the process ends, the deadline has passed, no such function is here."""

UNDECODABLE = 400
UNKNOWN = 404
LATE = 408
REJECTED = 422
OVERLOADED = 429
FAILED = 500
UNAVAILABLE = 503

CODES: dict[NotStarted, int] = {
    "overloaded": OVERLOADED,
    "draining": UNAVAILABLE,
    "expired": LATE,
    "unknown": UNKNOWN,
}

NEWS = "jetrunner.services"
"""Where an instance publishes its `Info` when it comes, when its functions change, and when it goes."""

Verb: TypeAlias = Literal["PING", "INFO", "STATS"]
MARK = "jetrunner"
"""The metadata of a service that answers on the subjects of its instances."""
HEAVIEST = 1_000
"""The most that an instance may weigh."""
LONGEST_ERROR = 1024
HEADERS_SIZE = 512
"""Bytes that our own headers of a request may take."""

_RELEASE = re.compile(r"v?(?:\d+!)?(\d+)(?:\.(\d+))?(?:\.(\d+))?(.*)", re.ASCII)
_SEMANTIC = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?", re.ASCII
)
_UNFIT = re.compile(r"[^0-9A-Za-z]+", re.ASCII)

Texts: TypeAlias = Annotated[dict[Line, Line], Meta(max_length=100)]


class ReplyOptions(Struct, frozen=True):
    """How a function answers requests."""

    idempotent: bool = False
    """Whether one may run twice."""


class Endpoint(Struct, frozen=True, kw_only=True):
    """One function of an instance."""

    name: Line
    subject: Pattern
    queue_group: Line = ""
    metadata: Texts | None = None

    @property
    def idempotent(self) -> bool:
        """Whether a request may run twice."""
        return (self.metadata or {}).get("idempotent") == "true"


class Info(Struct, frozen=True, kw_only=True):
    """What an instance tells of itself: the answer to `$SRV.INFO`."""

    name: Project
    id: Instance
    version: Line
    type: Literal["io.nats.micro.v1.info_response"] = "io.nats.micro.v1.info_response"
    description: Line | None = ""
    metadata: Texts | None = None
    endpoints: Annotated[list[Endpoint], Meta(max_length=1_000)] = []
    gone: bool = False
    """In the news alone: it takes no more requests."""

    @property
    def ours(self) -> bool:
        """Whether it answers on the subject of its instance, too."""
        return MARK in (self.metadata or {})

    @property
    def weight(self) -> float:
        """Its share, beside 1.0 of the others'."""
        try:
            found = float((self.metadata or {}).get("weight", "1"))
        except ValueError:
            return 1.0
        return found if 0 < found <= HEAVIEST else 1.0


read_info = checked.json(Info)
"""What was told; raises `Unfit`."""


def instance_subject(project: str, instance: str, subject: str) -> str:
    """Name the subject on which one instance answers what is asked on `subject`; `>` stands for all of its own."""
    return f"jetrunner.{project}.at.{instance}.{subject}"


def control_subjects(verb: Verb, project: str, instance: str) -> tuple[str, str, str]:
    """Name the subjects on which an instance answers a question about itself: all services, this one, this instance."""
    return f"$SRV.{verb}", f"$SRV.{verb}.{project}", f"$SRV.{verb}.{project}.{instance}"


def semantic(version: str) -> str:
    """Give a version of a Python package as a semantic one, the only kind that the `nats` CLI reads; 0.0.0 for what is none."""
    if _SEMANTIC.fullmatch(version):
        return version
    found = _RELEASE.fullmatch(version.strip())
    if found is None:
        return "0.0.0"
    release = ".".join(str(int(found[each] or 0)) for each in (1, 2, 3))
    rest = [each for each in _UNFIT.split(found[4]) if each]
    return f"{release}-{'.'.join(rest)}" if rest else release
