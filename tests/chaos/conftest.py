"""Long runs on demand (`just chaos`, `pytest tests/chaos --long`); without `--long` the short form of each."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="the long form of the chaos runs")
    parser.addoption("--seed", type=int, help="the seed of a chaos run that is to be repeated")


@pytest.fixture
def long(request: pytest.FixtureRequest) -> bool:
    """Whether to take the time that it takes."""
    return bool(request.config.getoption("--long", default=False))


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """What the faults are drawn from: repeatable in their order and places, not to the microsecond."""
    given = request.config.getoption("--seed", default=None)
    return int(given) if given is not None else random.SystemRandom().randrange(1 << 32)


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Print a line that is seen whatever pytest captures."""

    def tell(line: str) -> None:
        with capsys.disabled():
            print(f"\n{line}")

    return tell
