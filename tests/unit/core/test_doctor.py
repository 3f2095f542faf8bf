"""What will hurt, where no server of a test has it: an old release, limits of an account, a wrong clock, a cluster."""

from __future__ import annotations

from typing import Any

import pytest

from runner.core.doctor import clock, durable, leftovers, rights, server, stream
from runner.core.doctor.finding import Finding


def severities(found: Any) -> list[tuple[str, str]]:
    return [(each.check, each.severity) for each in found]


@pytest.mark.parametrize(
    ("release", "crons", "count"),
    [
        ((2, 14), ["nightly"], 0),
        ((2, 12), [], 0),
        ((2, 12), ["nightly"], 1),
        ((2, 11), ["nightly"], 2),
        ((), [], 1),
    ],
)
def test_an_old_server_is_told_with_what_cannot_run(
    release: tuple[int, ...], crons: list[str], count: int
) -> None:
    found = [*server.of_release("2.x", release, (2, 12), crons, (2, 14))]
    assert severities(found) == [("server", "hurts")] * count
    assert all(each.remedy.startswith("upgrade nats-server") for each in found)


def test_limits_of_the_account_are_told_when_they_are_near() -> None:
    info = {
        "storage": 95,
        "streams": 4,
        "consumers": 50,
        "limits": {"max_storage": 100, "max_streams": 5, "max_consumers": -1},
    }
    (found,) = server.of_account(info)
    assert found.what == "the account has 95 of 100 bytes of file storage"
    assert [*server.of_account({"storage": 95})] == []


@pytest.mark.parametrize(
    ("ahead", "doubt", "severity"),
    [
        (0.5, 0.0, None),
        (-1.5, 1.0, None),
        (2.0, 0.1, "may hurt"),
        (-90.0, 0.1, "hurts"),
        (60.5, 1.0, "may hurt"),
    ],
)
def test_a_wrong_clock_is_told(ahead: float, doubt: float, severity: str | None) -> None:
    found = [*clock.of_offset(ahead, doubt)]
    assert severities(found) == ([("clock", severity)] if severity else [])
    assert all(("ahead of" in each.what) == (ahead > 0) for each in found)


def test_a_stream_on_one_server_of_a_cluster_is_told() -> None:
    assert severities(stream.of_replicas("ORDERS", {"num_replicas": 1}, clustered=True)) == [
        ("stream", "may hurt")
    ]
    assert [*stream.of_replicas("ORDERS", {"num_replicas": 3}, clustered=True)] == []
    assert [*stream.of_replicas("ORDERS", {}, clustered=False)] == []


def test_a_durable_that_counts_what_has_not_run_or_is_paused_is_told() -> None:
    info = {"config": {"ack_policy": "none", "pause_until": "2030-01-01"}, "paused": True}
    assert [each.what for each in durable.of_consumer("shop-charge", "charge", info, 64)] == [
        'shop-charge: ack_policy = "none"',
        "shop-charge: paused until 2030-01-01",
    ]


def test_what_is_denied_and_what_is_left_is_told_with_its_remedy() -> None:
    (denied,) = rights.of_denied([("$JS.API.INFO", "the version of the server")])
    assert isinstance(denied, Finding)
    assert denied.meaning == "it is needed: the version of the server"
    (left,) = leftovers.of_gone({"ship": {"durable": 2, "dead letter": 0}, "none": {"durable": 0}})
    assert left.what.endswith("there is of it: 2 durables")
