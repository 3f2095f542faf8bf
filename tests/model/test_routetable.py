"""The table of routes against a matcher that tries all of them, and sorts what fits by the rules as they are written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any, TypeVar

import pytest

from runner.core.http.backend import FunctionBackend
from runner.core.http.route import Condition, Exact, Path, Pattern, Prefix, Route, RouteSource, Weighted
from runner.core.http.routetable import Matched, RouteTable

SEGMENTS = ["a", "a", "a", "a", "b", "b", ""]
HOSTS = ["a.com", "b.a.com", "b.a.com", "c.b.a.com", "d.c.b.a.com", "com", "x.org", ""]
DECLARED = ["a.com", "b.a.com", "*.a.com", "*.b.a.com", "*.com", "x.org"]
SOURCES: list[RouteSource] = ["own", "ingress", "httproute"]

T = TypeVar("T")
METHODS = ["GET", "GET", "POST", "HEAD", "DELETE"]


def some(random: Random, choices: Sequence[T], most: int) -> tuple[T, ...]:
    """None of them half of the time, and no two alike."""
    return tuple(random.sample(choices, random.choice([0, 0, *range(1, most + 1)])))


def a_path(random: Random) -> str:
    return "/" + "/".join(random.choices(SEGMENTS, k=random.randint(1, 4)))


def a_route(random: Random) -> Route:
    kinds: list[type[Exact | Prefix | Pattern]] = [Exact, Prefix, Prefix, Pattern, Pattern]
    kind = random.choice(kinds)
    path = a_path(random)
    if kind is Pattern:
        steps = [step or "a" for step in path[1:].split("/")]
        path = "/" + "/".join(
            f"{{t{at}}}" if random.random() < 0.5 else step for at, step in enumerate(steps)
        )
    return Route(
        name="r",
        source=random.choice(SOURCES),
        hosts=some(random, DECLARED, 2),
        path=kind(path),
        methods=some(random, ["GET", "POST"], 1),
        headers=tuple(Condition(name, "1") for name in some(random, ["x", "y"], 2)),
        query=tuple(Condition(name, "1") for name in some(random, ["x", "y"], 2)),
        backends=(Weighted(FunctionBackend("f")),),
        order=random.choice([(0.0, ""), (1.0, "a"), (1.0, "b")]),
    )


def host_rank(route: Route, host: str) -> tuple[int, int] | None:
    """How precisely the best of its hosts names this one; None where none does."""
    found = [(0, 0)] if not route.hosts else []
    for each in route.hosts:
        if each == host:
            found.append((2, len(each)))
        elif each.startswith("*.") and host.endswith(each[1:]):
            labels = host.removesuffix(each[1:]).count(".") + 1
            if labels == 1 or route.source != "ingress":
                found.append((1, len(each)))
    return max(found, default=None)


def path_rank(path: Path, asked: str) -> Any:
    """How precisely it names this one, the smaller the better; None where it does not."""
    here, there = path.path.split("/"), asked.split("/")
    if isinstance(path, Prefix):
        here = path.path.rstrip("/").split("/")
        return (2, -len(here)) if there[: len(here)] == here else None
    if isinstance(path, Pattern) and "{" in path.path:
        fits = len(here) == len(there) and all(
            (one.startswith("{") and other) or one == other for one, other in zip(here, there, strict=True)
        )
        return (1, [one.startswith("{") for one in here]) if fits else None
    return (0,) if path.path == asked else None


def brute_force(
    all_: list[Route], method: str, host: str, path: str, query: dict[str, str], headers: dict[str, str]
) -> Any:
    """The index of the route that is taken, or what the refusal is."""
    found: list[tuple[Any, int]] = []
    allow: set[str] = set()
    for number, route in enumerate(all_):
        of_host, of_path = host_rank(route, host), path_rank(route.path, path)
        if of_host is None or of_path is None:
            continue
        if any(headers.get(each.name) != each.value for each in route.headers):
            continue
        if any(query.get(each.name) != each.value for each in route.query):
            continue
        methods = {*route.methods} | ({"HEAD"} if route.source == "own" and "GET" in route.methods else set())
        if methods and method not in methods:
            allow |= methods if route.source == "own" else set()
            continue
        precise = (-of_host[0], -of_host[1])
        kind = ("own", "httproute", "ingress").index(route.source)
        rest = (not route.methods, -len(route.headers), -len(route.query), kind, route.order, number)
        found.append(((precise, of_path, rest), number))
    if found:
        return min(found)[1]
    return (405, tuple(sorted(allow))) if allow else (404, ())


@pytest.mark.parametrize("seed", range(8))
def test_the_table_takes_what_a_matcher_takes_that_tries_all(seed: int) -> None:
    random = Random(seed)
    ends: Counter[int] = Counter()
    for _ in range(300):
        all_ = [a_route(random) for _ in range(random.randint(1, 20))]
        table = RouteTable(all_, luck=lambda: 0.0)
        for _ in range(5):
            method, host, path = random.choice(METHODS), random.choice(HOSTS), a_path(random)
            query, headers = (
                {name: random.choice("112") for name in some(random, ["x", "y"], 2)} for _ in range(2)
            )
            text = "&".join(f"{name}={value}" for name, value in query.items()).encode()
            pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
            got = table.match(method, host, path.encode(), text, pairs)
            expected = brute_force(all_, method, host, path, query, headers)
            if isinstance(got, Matched):
                assert isinstance(expected, int)
                assert got.route is all_[expected]
            else:
                assert (got.status, got.allow) == expected
            ends[200 if isinstance(got, Matched) else got.status] += 1
    assert min(ends[200], ends[404]) > 200, "both are tried often"
    assert ends[405] > 5
