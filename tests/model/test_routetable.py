"""The table of routes against a matcher that tries all of them, and sorts what fits by the rules as they are written."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from runner.core.http.backend import Call
from runner.core.http.route import Condition, Exact, Path, Pattern, Prefix, Route, Source, Weighted
from runner.core.http.routetable import Matched, RouteTable

SEGMENTS = ["a", "b", "c", ""]
HOSTS = ["a.com", "b.a.com", "c.b.a.com", "d.c.b.a.com", "com", "x.org", ""]
DECLARED = ["a.com", "b.a.com", "*.a.com", "*.b.a.com", "*.com", "x.org"]
METHODS = ["GET", "POST", "HEAD", "DELETE"]

literal = st.lists(st.sampled_from(SEGMENTS), min_size=1, max_size=4).map(lambda found: "/" + "/".join(found))
pattern = st.lists(st.sampled_from(["a", "b", "*", "*"]), min_size=1, max_size=4).map(
    lambda found: "/" + "/".join(f"{{t{at}}}" if each == "*" else each for at, each in enumerate(found))
)
paths: st.SearchStrategy[Path] = st.one_of(
    st.builds(Exact, literal), st.builds(Prefix, literal), st.builds(Pattern, pattern)
)
conditions = st.lists(
    st.builds(Condition, st.sampled_from(["x", "y"]), st.sampled_from(["1", "2"])),
    max_size=2,
    unique_by=lambda each: each.name,
).map(tuple)
sources: st.SearchStrategy[Source] = st.sampled_from(["own", "ingress", "httproute"])
routes = st.builds(
    Route,
    name=st.just("r"),
    source=sources,
    hosts=st.lists(st.sampled_from(DECLARED), max_size=2).map(tuple),
    path=paths,
    methods=st.lists(st.sampled_from(["GET", "POST"]), max_size=1).map(tuple),
    headers=conditions,
    query=conditions,
    backends=st.just((Weighted(Call("f")),)),
    order=st.sampled_from([(0.0, ""), (1.0, "a"), (1.0, "b")]),
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
        rest = (not route.methods, -len(route.headers), -len(route.query), route.order, number)
        found.append(((precise, of_path, rest), number))
    if found:
        return min(found)[1]
    return (405, tuple(sorted(allow))) if allow else (404, ())


@settings(max_examples=400)
@given(
    st.lists(routes, max_size=8),
    st.sampled_from(METHODS),
    st.sampled_from(HOSTS),
    literal,
    st.dictionaries(st.sampled_from(["x", "y"]), st.sampled_from(["1", "2"])),
    st.dictionaries(st.sampled_from(["x", "y"]), st.sampled_from(["1", "2"])),
)
def test_the_table_takes_what_a_matcher_takes_that_tries_all(
    all_: list[Route], method: str, host: str, path: str, query: dict[str, str], headers: dict[str, str]
) -> None:
    table = RouteTable(all_, luck=lambda: 0.0)
    text = "&".join(f"{name}={value}" for name, value in query.items()).encode()
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    got = table.match(method, host, path.encode(), text, pairs)
    expected = brute_force(all_, method, host, path, query, headers)
    if isinstance(got, Matched):
        assert isinstance(expected, int)
        assert got.route is all_[expected]
    else:
        assert (got.status, got.allow) == expected
