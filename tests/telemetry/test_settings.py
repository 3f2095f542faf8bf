from __future__ import annotations

import pytest

from runner.errors import SettingsError
from runner.telemetry.settings import TelemetrySettings, load


def test_an_empty_environment_exports_to_the_local_collector() -> None:
    assert load({}) == TelemetrySettings()
    assert load({}).endpoint == "http://localhost:4318/v1/traces"


@pytest.mark.parametrize(
    ("variables", "endpoint"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:1"}, "http://c:1/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "https://c/otlp/"}, "https://c/otlp/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:1/in"}, "http://c:1/in"),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://b"},
            "http://b",
        ),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, "http://localhost:4318/v1/traces"),
    ],
)
def test_the_endpoint_for_all_signals_gets_the_path_and_the_one_for_traces_is_taken_as_it_is(
    variables: dict[str, str], endpoint: str
) -> None:
    assert load(variables).endpoint == endpoint


@pytest.mark.parametrize("url", ["collector:4318", "ftp://c", "http://", "http://c:99999", "http://c:x"])
def test_an_endpoint_that_is_no_url_is_refused_by_the_name_of_its_variable(url: str) -> None:
    with pytest.raises(SettingsError, match="OTEL_EXPORTER_OTLP_ENDPOINT"):
        load({"OTEL_EXPORTER_OTLP_ENDPOINT": url})


@pytest.mark.parametrize(
    ("variables", "exporter"),
    [
        ({"OTEL_TRACES_EXPORTER": "none"}, "none"),
        ({"OTEL_TRACES_EXPORTER": "console"}, "console"),
        ({"OTEL_TRACES_EXPORTER": "OTLP"}, "otlp"),
        ({"OTEL_SDK_DISABLED": "TRUE"}, "none"),
        ({"OTEL_SDK_DISABLED": "false"}, "otlp"),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "otlp"}, "none"),
    ],
)
def test_traces_can_be_turned_off_and_printed(variables: dict[str, str], exporter: str) -> None:
    settings = load(variables)
    assert settings.exporter == exporter
    assert settings.enabled == (exporter != "none")
    assert settings.warnings == ()


@pytest.mark.parametrize(
    ("variables", "field", "value"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "exporter", "otlp"),
        ({"OTEL_SDK_DISABLED": "yes"}, "exporter", "otlp"),
        ({"OTEL_TRACES_SAMPLER": "jaeger_remote"}, "sampler", ""),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "lots"}, "ratio", 1.0),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "2"}, "ratio", 1.0),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "nan"}, "ratio", 1.0),
        ({"OTEL_EXPORTER_OTLP_TIMEOUT": "soon"}, "timeout", 3.0),
        ({"OTEL_EXPORTER_OTLP_TIMEOUT": "-1"}, "timeout", 3.0),
        ({"OTEL_BSP_SCHEDULE_DELAY": "inf"}, "interval", 1.0),
        ({"OTEL_EXPORTER_OTLP_HEADERS": "secret"}, "headers", ()),
        ({"OTEL_RESOURCE_ATTRIBUTES": "=x,a=1"}, "resource", (("a", "1"),)),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "endpoint", "http://localhost:4318/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json"}, "exporter", "otlp"),
    ],
)
def test_a_value_that_means_nothing_costs_one_warning(
    variables: dict[str, str], field: str, value: object
) -> None:
    settings = load(variables)
    assert getattr(settings, field) == value
    assert len(settings.warnings) == 1
    assert "secret" not in settings.warnings[0]


@pytest.mark.parametrize(
    ("value", "seconds"), [("10000", 10.0), ("2500", 2.5), ("10", 10.0), ("0.5", 0.5), ("", 3.0)]
)
def test_a_timeout_is_in_milliseconds_and_a_small_one_in_seconds(value: str, seconds: float) -> None:
    assert load({"OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": value}).timeout == pytest.approx(seconds)


def test_headers_for_traces_stand_in_for_those_of_all_signals_and_are_never_shown() -> None:
    settings = load(
        {
            "OTEL_EXPORTER_OTLP_HEADERS": "a=1",
            "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "authorization=Bearer%20hush,x=y=z",
        }
    )
    assert settings.headers == (("authorization", "Bearer hush"), ("x", "y=z"))
    assert "hush" not in repr(settings)


def test_credentials_in_the_endpoint_are_not_shown() -> None:
    settings = load({"OTEL_EXPORTER_OTLP_ENDPOINT": "https://me:hush@c:4318"})
    assert "hush" not in repr(settings)
    assert settings.destination == "https://c:4318/v1/traces"


def test_a_service_name_among_the_resource_attributes_is_the_service_name() -> None:
    settings = load(
        {"OTEL_RESOURCE_ATTRIBUTES": "service.name=web%20shop, deployment.environment.name = test"}
    )
    assert settings.service_name == "web shop"
    assert settings.resource == (("deployment.environment.name", "test"),)
    assert load({"OTEL_SERVICE_NAME": "x", "OTEL_RESOURCE_ATTRIBUTES": "service.name=y"}).service_name == "x"


def test_propagators_are_a_list_and_none_is_none() -> None:
    assert load({"OTEL_PROPAGATORS": "tracecontext, b3 ,tracecontext"}).propagators == ("tracecontext", "b3")
    assert load({"OTEL_PROPAGATORS": "tracecontext,none"}).propagators == ()


@pytest.mark.parametrize(
    ("value", "told"),
    [("", "events"), ("logs", "logs"), ("logs/dup", "both"), ("http, LOGS", "logs"), ("spans", "events")],
)
def test_where_exceptions_are_told_is_read_as_a_list(value: str, told: str) -> None:
    assert load({"OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN": value}).exceptions == told
