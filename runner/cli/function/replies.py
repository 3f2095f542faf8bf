"""Answers to what an invoked function asks by `ctx.request`: the command line gives them, and no instance is asked."""

from __future__ import annotations

from collections.abc import Sequence

from runner.core.subject import Template, matches
from runner.errors import UsageError
from runner.testing.contexts import GivenReplies


class NoReply(Exception):  # noqa: N818  named by what happened
    """Nothing was given for a subject that a function has asked on."""


def replying(given: Sequence[str]) -> GivenReplies:
    """Stand where the connection is; `given` as SUBJECT=BODY, where a subject may have `*` and `>`; of two that fit the first counts.

    Raises UsageError. What is asked on another subject raises NoReply.
    """
    answers = [_read(each) for each in given]

    def answer(subject: str, _: bytes) -> bytes:
        for pattern, body in answers:
            if matches(pattern, subject):
                return body
        raise NoReply(
            f"it asks on {subject}, and nobody is asked here: give the answer with --reply {subject}=BODY"
        )

    return GivenReplies(answer)


def _read(given: str) -> tuple[str, bytes]:
    subject, equals, body = given.partition("=")
    if not equals:
        raise UsageError(f"--reply {given!r} is not SUBJECT=BODY")
    try:
        return Template.parse(subject).wildcard, body.encode()
    except ValueError as error:
        raise UsageError(f"--reply {given!r}: {error}") from None
