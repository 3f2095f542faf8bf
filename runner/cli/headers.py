"""Message headers given on the command line."""

from __future__ import annotations

from collections.abc import Sequence

from runner.core import header
from runner.errors import UsageError


def parse_headers(given: Sequence[str]) -> list[tuple[str, str]]:
    """Texts of the form `NAME:VALUE` as pairs. Raises UsageError for a text that is not a header."""
    pairs = []
    for text in given:
        name, colon, value = text.partition(":")
        if not colon:
            raise UsageError(
                f"--header {text!r} is not NAME:VALUE", hint="for example --header 'Tenant: acme'"
            )
        pairs.append((name.strip(), value.strip()))
    try:
        header.encode(pairs)
    except ValueError as error:
        raise UsageError(f"--header: {error}") from None
    return pairs
