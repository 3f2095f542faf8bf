"""What is told of functions that are asked: a bounded view, whatever services say of themselves."""

from __future__ import annotations

import msgspec

from runner.cli import askedfunctions as shown
from runner.core import snapshot
from runner.core.snapshot import MOST_ASKED, Snapshot
from runner.process import askedmetrics
from runner.process.metrictext import written
from runner.requests import view
from runner.requests.callee import Callee


def callee(project: str, function: str, *, instances: int = 1, was_asked: bool = True) -> Callee:
    made = Callee(project, f"{function}.*", function)
    made.balancer.update({f"i{number:04}": 1.0 for number in range(instances)}, 0.0)
    made.asked = was_asked
    return made


def lines(callees: dict[tuple[str, str], Callee]) -> list[str]:
    """As `/metrics` writes them."""
    return written(askedmetrics.families(callees, 1.0))[1].decode().splitlines()


def test_functions_that_were_not_asked_are_left_out() -> None:
    callees = {("shop", "a"): callee("shop", "a", was_asked=False), ("shop", "b"): callee("shop", "b")}
    assert [each.function for each in view.asked(callees, 1.0)] == ["b"]
    assert 'function="a"' not in "\n".join(lines(callees))


def test_the_worst_instances_are_told_of_and_no_more_than_a_hundred() -> None:
    many = callee("shop", "a", instances=300)
    bad = many.balancer.backends["i0299"]
    many.balancer.suspend(bad, 1.0)
    (told,) = view.asked({("shop", "a"): many}, 1.0)
    assert told.known == 300
    assert len(told.instances) == MOST_ASKED
    assert (told.instances[0].instance, told.instances[0].state, told.instances[0].reason) == (
        "i0299", "ejected", "no answer",
    )  # fmt: skip


def test_the_number_of_series_does_not_grow_with_instances_nor_without_end_with_functions() -> None:
    few = {("shop", "a"): callee("shop", "a")}
    many = {("shop", "a"): callee("shop", "a", instances=1_000)}
    assert len(lines(few)) == len(lines(many))
    functions = {("shop", f"f{number}"): callee("shop", f"f{number}") for number in range(500)}
    assert len(lines(functions)) < 120 * len(lines(few))


def test_a_name_that_a_service_gives_itself_ends_no_label() -> None:
    told = lines({("shop", "a"): callee("shop", 'a"} 1\n\\')})
    assert 'function="a\\"} 1\\n\\\\"' in told[2]


def test_what_is_written_is_read_again() -> None:
    told = view.asked({("shop", "a"): callee("shop", "a", instances=3)}, 1.0)
    whole = Snapshot("i1", 1.0, {}, {}, asked=told)
    assert snapshot.read(msgspec.json.encode(whole)) == whole


def test_several_askers_of_one_instance_are_told_as_one_row() -> None:
    good = callee("shop", "a", instances=2)
    bad = callee("shop", "a", instances=2)
    bad.balancer.suspend(bad.balancer.backends["i0001"], 1.0)
    snapshots = [
        msgspec.to_builtins(Snapshot(name, 1.0, {}, {}, asked=view.asked({("shop", "a"): each}, 1.0)))
        for name, each in (("x", good), ("y", bad))
    ]
    rows = list(shown.rows(shown.asked(snapshots), "shop"))
    assert [row[:4] for row in rows] == [
        ["a", "i0000", "2", "healthy"],
        ["a", "i0001", "2", "ejected (no answer) by 1 of 2"],
    ]
    assert next(iter(shown.rows(shown.asked(snapshots), "other")))[0] == "shop.a"
