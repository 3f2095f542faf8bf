"""Answers for an invoked function that calls `ctx.request`: the command line gives them, and no instance is asked."""

from __future__ import annotations

from collections.abc import Sequence

from runner.core.subject import Template, matches
from runner.errors import UsageError
from runner.testing.contexts import GivenReplies


class NoReply(Exception):  # noqa: N818  named by what happened
    """The command line has no answer for a subject on which a function has asked."""


def replying(given: Sequence[str]) -> GivenReplies:
    """Make the answers that take the place of a connection.

    Each of `given` is SUBJECT=BODY. A subject may have `*` and `>`; the first one that fits counts. Raises UsageError for any other
    text. A request on a subject without an answer raises NoReply.
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
