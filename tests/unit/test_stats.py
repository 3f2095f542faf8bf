"""What a function counts of itself."""

from __future__ import annotations

from runner.pipeline.stats import Stats


class Attempt:
    def __init__(self, name: str, *, sampled: bool = True) -> None:
        self._name = name
        self.sampled = sampled
        self.asked = 0

    @property
    def trace_id(self) -> str:
        self.asked += 1
        return self._name


def test_of_each_duration_the_last_trace_that_is_kept_is_shown() -> None:
    stats = Stats()
    attempts = [
        (Attempt("a"), 0.010), (Attempt("b"), 0.010), (Attempt("c", sampled=False), 0.010),
        (Attempt("slow"), 2.0), (Attempt("dropped", sampled=False), 7.0), (Attempt("longest"), 1e9),
    ]  # fmt: skip
    for attempt, seconds in attempts:
        stats.took(seconds, attempt)
    stats.collect()
    assert {(trace, seconds) for trace, seconds, _ in stats.traced.values()} == {
        ("b", 0.010), ("slow", 2.0), ("longest", 1e9),
    }  # fmt: skip
    assert attempts[0][0].asked == 0, (
        "thousands a second are of one duration: only one is asked for its trace"
    )
    stats.took(0.010, Attempt("later"))
    stats.collect()
    assert {trace for trace, _, _ in stats.traced.values()} == {"later", "slow", "longest"}
