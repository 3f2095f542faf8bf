"""What a gateway counts, by route."""

from __future__ import annotations

from runner.gateway.httpcounts import NO_ROUTE, REFUSED, HttpCounts


def test_a_route_that_is_gone_is_forgotten_and_others_keep_their_counts() -> None:
    counts = HttpCounts()
    for route in ("kept", "gone"):
        counts.begin(route)
        counts.note(route, 200, 0.01)
    counts.note(NO_ROUTE, 404, 0.01)
    counts.refused(400)
    counts.collect()
    counts.keep(["kept"])
    assert {route for route, _ in counts.requests} == {"kept", NO_ROUTE, REFUSED}
    assert counts.requests["kept", 2] == 1
    assert set(counts.durations) == {"kept", NO_ROUTE}
    counts.note("kept", 200, 0.01)
    assert counts.durations["kept"].number == 2
