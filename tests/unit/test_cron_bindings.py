"""`@cron`: what is attached, and every way to get it wrong, told at import with file and line."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from runner import Context, consume, cron
from runner.bindings import Binding, binding_of
from runner.errors import BindingError


def bound(function: Callable[..., Any]) -> Binding:
    binding = binding_of(function)
    assert binding is not None
    return binding


async def nightly(ctx: Context) -> None: ...


async def with_body(order: dict[str, int], ctx: Context) -> None: ...


async def parts(ctx: Context) -> AsyncIterator[int]:
    yield 1


def test_a_binding_keeps_what_it_was_told() -> None:
    @cron("30 2 * * 1-5", timezone="Europe/Berlin", output="reports.daily", timeout=5, overlap="allow")
    def report(ctx: Context) -> str:
        return str(ctx.scheduled)

    found = bound(report)
    assert found.schedule is not None
    assert (found.schedule.text, found.schedule.timezone) == ("30 2 * * 1-5", "Europe/Berlin")
    assert (found.timeout, found.overlap, found.kind) == (5, "allow", "thread")
    assert found.output is not None
    assert (found.function, found.label, found.output.text) == ("report", "report", "reports.daily")


def test_the_defaults_are_those_of_the_documentation() -> None:
    @cron("@hourly")
    def report() -> None: ...

    found = bound(report)
    assert found.schedule is not None
    assert (found.schedule.timezone, found.output, found.timeout, found.overlap) == (
        "UTC",
        None,
        30.0,
        "skip",
    )
    assert found.retry.attempts == 5
    assert found.on_exhausted == "dead_letter"


def test_a_generator_with_an_output_is_taken() -> None:
    async def split(ctx: Context) -> AsyncIterator[int]:
        yield 1

    assert bound(cron("@daily", output="parts")(split)).kind == "async_generator"


@pytest.mark.parametrize(
    ("expression", "options", "message"),
    [
        ("* * * *", {}, "has 4 fields"),
        ("0 0 3 * * *", {}, "has 6 fields"),
        ("61 * * * *", {}, "minute '61': '61' is none of 0 to 59"),
        ("0 3 30 2 *", {}, "never fires"),
        ("@reboot", {}, "is none of @yearly"),
        ("@every 10ms", {}, "write a duration of 1 s to a year"),
        ("@every 60s", {"timezone": "Europe/Berlin"}, "has no time zone"),
        ("0 0 */2 * 1", {}, "where a field of days begins with"),
        ("", {}, "has 1 fields"),
        (7, {}, "the schedule is a string, not 7"),
        ("@daily", {"timezone": "Mars/Base"}, "there is no time zone 'Mars/Base'"),
        ("@daily", {"timezone": "../../etc/passwd"}, "there is no time zone"),
        ("@daily", {"timezone": "CET"}, "is not a name of the IANA database"),
        ("@daily", {"timezone": None}, "timezone= is a string, not None"),
        ("@daily", {"overlap": "queue"}, "overlap"),
        ("@daily", {"timeout": 0}, "timeout"),
        ("@daily", {"output": "reports.{day}"}, "day"),
        ("@daily", {"name": "no name"}, "name="),
        ("@daily", {"retry": 3}, "retry"),
    ],
)
def test_a_wrong_option_is_refused_at_import(expression: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(BindingError) as caught:
        bound(cron(expression, **options)(nightly))
    assert message in str(caught.value)
    assert "test_cron_bindings.py:" in str(caught.value)


@pytest.mark.parametrize(
    ("handler", "message", "hint"),
    [
        (with_body, "parameter 'order': a firing has no body", "take the context alone"),
        (parts, "a generator needs output=", None),
    ],
)
def test_a_wrong_signature_is_refused_at_import(
    handler: Callable[..., Any], message: str, hint: str | None
) -> None:
    with pytest.raises(BindingError) as caught:
        bound(cron("@daily")(handler))
    assert message in str(caught.value)
    assert "test_cron_bindings.py:" in str(caught.value)
    assert hint is None or hint in str(caught.value.hint)


def test_the_parentheses_cannot_be_forgotten() -> None:
    with pytest.raises(BindingError, match=r"test_cron_bindings\.py:\d+: cron needs a schedule") as caught:
        cron(nightly)  # type: ignore[arg-type]
    assert '@cron("0 3 * * *")' in str(caught.value.hint)


def test_a_function_fires_or_reads_and_not_both() -> None:
    async def both(ctx: Context) -> None: ...

    with pytest.raises(BindingError):
        cron("@daily")(consume("orders")(both))


def test_a_renamed_function_is_not_told_by_an_option() -> None:
    with pytest.raises(TypeError, match="renamed_from"):
        cron("@daily", renamed_from="weekly")  # type: ignore[call-arg]
