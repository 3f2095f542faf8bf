"""Long runs on demand (`just chaos`, `pytest tests/chaos --long`); without `--long` the short form of each."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="the long form of the chaos runs")
    parser.addoption("--seed", type=int, help="the seed of a chaos run that is to be repeated")
    parser.addoption("--seeds", type=int, help="take so many seeds one after the other, from --seed on")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    count = metafunc.config.getoption("--seeds", default=None)
    if count and "seed" in metafunc.fixturenames:
        given = metafunc.config.getoption("--seed")
        first = given if given is not None else random.SystemRandom().randrange(1 << 32)
        metafunc.parametrize("seed", range(first, first + count))


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
