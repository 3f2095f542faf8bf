"""Rights that the credentials lack."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from runner.core.doctor.finding import Finding


def of_denied(denied: Iterable[tuple[str, str]]) -> Iterator[Finding]:
    """Report subjects that may not be published to, each with the purpose for which it is needed."""
    for subject, why in denied:
        yield Finding(
            "rights",
            "hurts",
            f"the credentials do not allow to publish to {subject}",
            f"it is needed: {why}",
            "runner permissions prints all that a user needs; docs/security.md says more",
        )


def of_unseen(why: str) -> Iterator[Finding]:
    """Report that these credentials may not look at durables and leftovers."""
    yield Finding(
        "rights",
        "may hurt",
        why,
        "durables, and what functions that are gone have left, were not looked at",
        "look with the rights that runner permissions --for operate prints",
    )
