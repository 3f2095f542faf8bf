"""What the credentials do not allow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from runner.core.doctor.finding import Finding


def of_denied(denied: Iterable[tuple[str, str]]) -> Iterator[Finding]:
    """Subjects that may not be published to, each with what it is needed for."""
    for subject, why in denied:
        yield Finding(
            "rights",
            "hurts",
            f"the credentials do not allow to publish to {subject}",
            f"it is needed: {why}",
            "runner permissions prints all that a user needs; docs/security.md says more",
        )


def of_unseen(why: str) -> Iterator[Finding]:
    """Durables and leftovers that these credentials may not look at."""
    yield Finding(
        "rights",
        "may hurt",
        why,
        "durables, and what functions that are gone have left, were not looked at",
        "look with the rights that runner permissions --for operate prints",
    )
