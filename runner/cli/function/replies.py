"""Answers to what an invoked function asks by `ctx.request`: given on the command line, as nobody is asked."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from runner.core.balancer import Policy
from runner.core.subject import Template, matches
from runner.errors import UsageError
from runner.host import Reply


class NoReply(Exception):  # noqa: N818  named by what happened
    """Nothing was given for a subject that a function has asked on."""


class Replies:
    """Stands where the connection is."""

    def __init__(self, given: Sequence[str]) -> None:
        """`given` as SUBJECT=BODY, where a subject may have `*` and `>`; of two that fit the first counts. Raises UsageError."""
        self._given = [_read(each) for each in given]

    def now(self) -> float:
        """Unix time."""
        return time.time()

    async def request(
        self,
        subject: str,
        body: bytes,
        headers: Mapping[str, str],
        timeout: float,
        *,
        policy: Policy | None = None,
        sent_in: bytes | None = None,
    ) -> Reply:
        """The answer that was given for this subject. Raises NoReply without one."""
        for pattern, answer in self._given:
            if matches(pattern, subject):
                return Reply(answer)
        raise NoReply(
            f"it asks on {subject}, and nobody is asked here: give the answer with --reply {subject}=BODY"
        )


def _read(given: str) -> tuple[str, bytes]:
    subject, equals, body = given.partition("=")
    if not equals:
        raise UsageError(f"--reply {given!r} is not SUBJECT=BODY")
    try:
        return Template.parse(subject).wildcard, body.encode()
    except ValueError as error:
        raise UsageError(f"--reply {given!r}: {error}") from None
