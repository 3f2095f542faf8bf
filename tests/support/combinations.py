"""Every pair of values in each run of the tests, every combination of all in the long one.

Three parameters of two values have eight combinations, and four of those have every pair of values among them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations, product
from typing import Any, TypeAlias

import pytest

Choice: TypeAlias = tuple[int, ...]
"""The place of each parameter's value among its values."""


def combined(**values: dict[str, Any] | list[str]) -> pytest.MarkDecorator:
    """Parametrize a test: by each parameter's name its values, texts or by their ids.

    Combinations that repeat pairs which others have are marked `thorough`: they run with `--long`.
    """
    names = list(values)
    by_id = [each if isinstance(each, dict) else {text: text for text in each} for each in values.values()]
    sizes = list(map(len, by_id))
    enough = covering(sizes)
    parameters = []
    for choice in product(*map(range, sizes)):
        chosen = [list(each.items())[place] for each, place in zip(by_id, choice, strict=True)]
        parameters.append(
            pytest.param(
                *(value for _, value in chosen),
                id="-".join(shown for shown, _ in chosen),
                marks=() if choice in enough else pytest.mark.thorough,
            )
        )
    return pytest.mark.parametrize(names, parameters)


def covering(sizes: Sequence[int]) -> set[Choice]:
    """Few choices that have every pair of values of two parameters among them."""
    left = {pair for choice in product(*map(range, sizes)) for pair in pairs(choice)}
    taken: set[Choice] = set()
    while left:
        best = max(product(*map(range, sizes)), key=lambda choice: len(left.intersection(pairs(choice))))
        taken.add(best)
        left.difference_update(pairs(best))
    return taken


def pairs(choice: Choice) -> Iterable[Any]:
    """Each two of a choice's values, with the parameters that they are of; of a single parameter, its value."""
    placed = list(enumerate(choice))
    return combinations(placed, 2) if len(placed) > 1 else placed
