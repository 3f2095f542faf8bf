"""Who guesses keys waits; who does not, does not; and what is remembered has a bound."""

from __future__ import annotations

from runner.core.http.guesses import PLACES, Guesses


def test_so_many_failures_are_free_and_one_more_each_time_that_one_is_forgotten() -> None:
    guesses = Guesses(6)
    for _ in range(6):
        assert guesses.wait("a", 100.0) == 0.0
        guesses.failed("a", 100.0)
    assert guesses.wait("a", 100.0) == 10.0
    assert guesses.wait("a", 105.0) == 5.0
    assert guesses.wait("a", 110.0) == 0.0
    guesses.failed("a", 110.0)
    assert guesses.wait("a", 110.0) == 10.0
    assert guesses.wait("a", 200.0) == 0.0
    assert guesses.wait("b", 100.0) == 0.0


def test_in_an_hour_a_guesser_has_its_minutes_and_no_more() -> None:
    guesses, tries = Guesses(60), 0
    for second in range(3_600):
        for _ in range(50):
            if not guesses.wait("a", float(second)):
                guesses.failed("a", float(second))
                tries += 1
    assert 60 * 60 <= tries <= 60 * 61


def test_a_house_is_one_client_and_so_is_an_address_in_another_form() -> None:
    guesses = Guesses(1)
    guesses.failed("2001:db8:0:1::1", 0.0)
    assert guesses.wait("2001:db8:0:1:ffff::2", 0.0) == 60.0
    assert guesses.wait("2001:db8:0:2::1", 0.0) == 0.0
    guesses.failed("::ffff:10.0.0.1", 0.0)
    assert guesses.wait("10.0.0.1", 0.0) == 60.0


def test_no_more_clients_are_remembered_than_there_are_places() -> None:
    guesses = Guesses(1)
    for number in range(PLACES + 10):
        guesses.failed(f"client {number}", 0.0)
    assert len(guesses._failures) == PLACES
    assert guesses.wait("client 9", 0.0) == 0.0, "it failed longest ago"
    assert guesses.wait("client 10", 0.0) == 60.0


def test_nobody_waits_where_none_is_to() -> None:
    guesses = Guesses(0)
    for _ in range(100):
        guesses.failed("a", 0.0)
    assert guesses.wait("a", 0.0) == 0.0
