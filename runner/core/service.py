"""Request/reply on the wire: subjects, headers and codes, and how instances describe themselves (ADR-32 of NATS).

Rule 1: a request to the subject of a function goes to whichever instance NATS picks, by a queue group: any client can ask.
        An asker that balances asks the subject of one instance: the instance's name and, behind it, the function's subject.
Rule 2: an answer with `Jetrunner-Not-Started` says that the handler has not begun, so it is safe to ask another instance.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct

from runner.core import checked
from runner.core.checked import InstanceName, Line, ProjectName, SubjectPattern

QUEUE = "q"
"""The queue group of every function, as ADR-32 has it."""

DEADLINE = "Jetrunner-Deadline"
"""A header with the milliseconds that the asker has left; asker and service share no clock."""
ERROR = "Nats-Service-Error"
CODE = "Nats-Service-Error-Code"
NOT_STARTED = "Jetrunner-Not-Started"

NotStarted: TypeAlias = Literal["overloaded", "draining", "expired", "unknown"]
"""Why a handler has not begun: too many requests wait, the process ends, the deadline has passed, or there is no such function."""

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
"""The subject to which an instance publishes its `Info` when it comes, when its functions change, and when it goes."""

Verb: TypeAlias = Literal["PING", "INFO", "STATS"]
MARK = "jetrunner"
"""A key of the metadata: the service answers on the subjects of its instances, too."""
HEAVIEST = 1_000
"""The greatest weight of an instance."""
LONGEST_ERROR = 1024
HEADERS_SIZE = 512
"""Most bytes that the runner's own headers of a request take."""

_RELEASE = re.compile(r"v?(?:\d+!)?(\d+)(?:\.(\d+))?(?:\.(\d+))?(.*)", re.ASCII)
_SEMANTIC = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?", re.ASCII
)
_UNFIT = re.compile(r"[^0-9A-Za-z]+", re.ASCII)

Texts: TypeAlias = Annotated[dict[Line, Line], Meta(max_length=100)]


class ReplyOptions(Struct, frozen=True):
    """How a function answers requests."""

    idempotent: bool = False
    """Whether a request may run twice."""


class Endpoint(Struct, frozen=True, kw_only=True):
    """One function of an instance."""

    name: Line
    subject: SubjectPattern
    queue_group: Line = ""
    metadata: Texts | None = None

    @property
    def idempotent(self) -> bool:
        """Whether a request may run twice."""
        return (self.metadata or {}).get("idempotent") == "true"


class Info(Struct, frozen=True, kw_only=True):
    """How an instance describes itself: the answer to `$SRV.INFO`."""

    name: ProjectName
    id: InstanceName
    version: Line
    type: Literal["io.nats.micro.v1.info_response"] = "io.nats.micro.v1.info_response"
    description: Line | None = ""
    metadata: Texts | None = None
    endpoints: Annotated[list[Endpoint], Meta(max_length=1_000)] = []
    gone: bool = False
    """Whether the instance takes no more requests; set only in what it publishes to `NEWS`."""

    @property
    def ours(self) -> bool:
        """Whether the instance answers on its own subject, too."""
        return MARK in (self.metadata or {})

    @property
    def weight(self) -> float:
        """The instance's share of requests, relative to 1.0, the default."""
        try:
            found = float((self.metadata or {}).get("weight", "1"))
        except ValueError:
            return 1.0
        return found if 0 < found <= HEAVIEST else 1.0


read_info = checked.json(Info)
"""Decode an answer to `$SRV.INFO`; raises `Unfit`."""


def instance_subject(project: str, instance: str, subject: str) -> str:
    """Name the subject on which one instance answers requests for `subject`; `>` stands for all its subjects."""
    return f"jetrunner.{project}.at.{instance}.{subject}"


def control_subjects(verb: Verb, project: str, instance: str) -> tuple[str, str, str]:
    """Name the subjects on which an instance answers a question about itself: all services, this one, this instance."""
    return f"$SRV.{verb}", f"$SRV.{verb}.{project}", f"$SRV.{verb}.{project}.{instance}"


def semantic(version: str) -> str:
    """Make a semantic version, the only kind that the `nats` CLI reads, of a Python package's; 0.0.0 for text that is not a version."""
    if _SEMANTIC.fullmatch(version):
        return version
    found = _RELEASE.fullmatch(version.strip())
    if found is None:
        return "0.0.0"
    release = ".".join(str(int(found[each] or 0)) for each in (1, 2, 3))
    rest = [each for each in _UNFIT.split(found[4]) if each]
    return f"{release}-{'.'.join(rest)}" if rest else release
