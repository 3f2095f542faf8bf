"""The least permissions that the NATS user of `runner gateway` needs.

Rule 1: a gateway without functions of its own asks and publishes, and reads only answers: no stream, no durable, no bucket.
"""

from __future__ import annotations

from collections.abc import Sequence

from runner.core import identity
from runner.jetstream.permission import Permission, api, once, publish, subscribe
from runner.jetstream.permissions import FunctionNeeds, of_asker, of_run


def of_gateway(
    project: str, routed: Sequence[FunctionNeeds], asks: Sequence[str], publishes: Sequence[str], inbox: str
) -> list[Permission]:
    """The permissions of a gateway with these functions, and with routes to these subjects."""
    found = of_run(project, routed, inbox) if routed else _alone(project, inbox)
    found += of_asker(asks, inbox) if asks else []
    found += [publish(each, "routes into streams") for each in publishes]
    return once(found)


def _alone(project: str, inbox: str) -> list[Permission]:
    return [
        api("INFO", "the version of the server"),
        api("STREAM.NAMES", "whether the cluster has a leader"),
        api("STREAM.LIST", "which stream captures which subject"),
        publish(f"{inbox}.>", "answers to commands"),
        subscribe(f"{inbox}.>", "answers"),
        subscribe(f"jetrunner.{project}.status", "questions of `runner status`"),
        subscribe(identity.alive_subject(project, "*"), "questions whether this instance lives"),
    ]
