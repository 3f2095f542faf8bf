"""Settings for traces from the standard OTEL_* variables, read once; and readers of single variables.

An empty variable counts as unset. An unknown name or a wrong number costs one warning and is ignored, as the OpenTelemetry
specification asks. An endpoint that is not a URL is a SettingsError, because no span could ever arrive there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, TypeAlias
from urllib.parse import unquote, urlsplit

from msgspec import Struct

from runner.errors import SettingsError

SAMPLERS = (
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
)
Signal: TypeAlias = Literal["traces", "metrics"]

PATIENCE = 3.0  # the specification's 10 s would outlive a drain
INTERVAL = (
    1.0  # not the specification's 5 s: whoever follows a printed trace link should find the trace there
)


class TelemetrySettings(Struct, frozen=True, kw_only=True):
    """Where traces go, and which are taken; the defaults are those of an empty environment."""

    exporter: Literal["otlp", "console", "none"] = "otlp"
    endpoint: str = "http://localhost:4318/v1/traces"
    asked: bool = False
    """Whether a variable names the endpoint; if not, it is the default, where perhaps no collector listens."""
    headers: tuple[tuple[str, str], ...] = ()
    """Sent with each export; may hold credentials, so never shown."""
    timeout: float = PATIENCE
    """Seconds for one export, its retries included."""
    interval: float = INTERVAL
    """Seconds between exports."""
    most: int | None = None
    """Most spans that wait; None: as many as the runner's own limit in bytes allows."""
    batch: int | None = None
    """Most spans in one export."""
    sampler: str = ""
    """One of SAMPLERS. Empty: the parent decides; of messages without a parent, up to 100 a second are taken."""
    ratio: float = 1.0
    propagators: tuple[str, ...] = ("tracecontext", "baggage")
    service_name: str = ""
    """If set, all spans belong to this one service; else each function is a service."""
    resource: tuple[tuple[str, str], ...] = ()
    exceptions: Literal["events", "logs", "both"] = "events"
    """Where exceptions are told: in events of spans, in the log, or in both."""
    warnings: tuple[str, ...] = ()

    @property
    def enabled(self) -> bool:
        """Whether spans are made at all."""
        return self.exporter != "none"

    @property
    def destination(self) -> str:
        """The endpoint without the credentials it may hold."""
        return without_credentials(self.endpoint)

    def __repr__(self) -> str:
        return f"TelemetrySettings({self.exporter}, {self.destination}, sampler={self.sampler or 'default'})"


def load(environ: Mapping[str, str]) -> TelemetrySettings:
    """Read the variables; raises SettingsError for an endpoint that is not an http or https URL."""
    warnings: list[str] = []
    sampler = choice(environ, "OTEL_TRACES_SAMPLER", SAMPLERS, warnings)
    attributes = pairs(environ, "OTEL_RESOURCE_ATTRIBUTES", warnings)
    named = dict(attributes).get("service.name", "")
    return TelemetrySettings(
        exporter=_exporter(environ, warnings),
        endpoint=endpoint(environ, warnings),
        asked=bool(text(environ, specific(environ, "ENDPOINT"))),
        headers=pairs(environ, specific(environ, "HEADERS"), warnings),
        timeout=timeout(environ, warnings),
        interval=milliseconds(environ, "OTEL_BSP_SCHEDULE_DELAY", INTERVAL, warnings),
        most=_count(environ, "OTEL_BSP_MAX_QUEUE_SIZE"),
        batch=_count(environ, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE"),
        sampler=sampler,
        ratio=_ratio(environ, sampler, warnings),
        propagators=_propagators(environ),
        service_name=text(environ, "OTEL_SERVICE_NAME") or named,
        resource=tuple(pair for pair in attributes if pair[0] != "service.name"),
        exceptions=_exceptions(environ),
        warnings=tuple(warnings),
    )


def without_credentials(url: str) -> str:
    """An endpoint as it may be shown."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()


def text(environ: Mapping[str, str], name: str) -> str:
    """Read a variable; empty if it is not set."""
    return environ.get(name, "").strip()


def specific(environ: Mapping[str, str], name: str, signal: Signal = "traces") -> str:
    """The name of the variable for one signal if that is set, else of the one for all signals."""
    alone = f"OTEL_EXPORTER_OTLP_{signal.upper()}_{name}"
    return alone if text(environ, alone) else f"OTEL_EXPORTER_OTLP_{name}"


def choice(environ: Mapping[str, str], name: str, known: tuple[str, ...], warnings: list[str]) -> str:
    """Read one of the known words, in any case; empty for any other word."""
    value = text(environ, name).lower()
    if value and value not in known:
        warnings.append(f"{name}={value} is not known here and is ignored (known: {', '.join(known)})")
        return ""
    return value


def _exporter(environ: Mapping[str, str], warnings: list[str]) -> Literal["otlp", "console", "none"]:
    if choice(environ, "OTEL_SDK_DISABLED", ("true", "false"), warnings) == "true":
        return "none"
    match choice(environ, "OTEL_TRACES_EXPORTER", ("otlp", "console", "none"), warnings):
        case "none":
            return "none"
        case "console":
            return "console"
        case _:
            return "otlp"


def endpoint(environ: Mapping[str, str], warnings: list[str], signal: Signal = "traces") -> str:
    """The endpoint of a signal. Raises SettingsError if it is not a URL."""
    name = specific(environ, "ENDPOINT", signal)
    value = text(environ, name)
    url = value or "http://localhost:4318"
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        sound = False
    if not sound:
        raise SettingsError(f"{name} is not an http:// or https:// URL", hint=f"{name}=http://localhost:4318")
    if name == "OTEL_EXPORTER_OTLP_ENDPOINT":
        url = f"{url.rstrip('/')}/v1/{signal}"
    protocol = specific(environ, "PROTOCOL", signal)
    spoken = text(environ, protocol).lower()
    if spoken not in ("", "http/protobuf"):
        warnings.append(
            f"{protocol}={spoken}: only http/protobuf is spoken, so {signal} go that way "
            f"to port {parts.port or 80} of {parts.hostname} (collectors take it on 4318)"
        )
    return url


def milliseconds(environ: Mapping[str, str], name: str, default: float, warnings: list[str]) -> float:
    """Read a time in milliseconds; gives seconds, like `default`."""
    value = text(environ, name)
    try:
        number = float(value or "nan")
    except ValueError:
        number = -1.0
    if 0 < number < math.inf:
        return number / 1000
    if value:
        warnings.append(f"{name}={value} is not a time in milliseconds; {default:g} s it is")
    return default


def _count(environ: Mapping[str, str], name: str) -> int | None:
    """A number above 0; the SDK complains about any other text."""
    value = text(environ, name)
    return int(value) if value.isascii() and value.isdecimal() and int(value) > 0 else None


def timeout(environ: Mapping[str, str], warnings: list[str], signal: Signal = "traces") -> float:
    """Read a timeout. The specification counts milliseconds, OpenTelemetry's Python exporter seconds: a value below 100 is seconds."""
    seconds = milliseconds(environ, specific(environ, "TIMEOUT", signal), PATIENCE, warnings)
    return seconds * 1000 if seconds < 0.1 else seconds


def _ratio(environ: Mapping[str, str], sampler: str, warnings: list[str]) -> float:
    if not sampler.endswith("traceidratio"):
        return 1.0
    value = text(environ, "OTEL_TRACES_SAMPLER_ARG") or "1"
    try:
        ratio = float(value)
    except ValueError:
        ratio = -1.0
    if not 0 <= ratio <= 1:
        warnings.append(f"OTEL_TRACES_SAMPLER_ARG={value} is not a number from 0 to 1; every trace is taken")
        return 1.0
    return ratio


def _exceptions(environ: Mapping[str, str]) -> Literal["events", "logs", "both"]:
    """Read a list of places; unknown names are ignored, as other programs may know them."""
    asked = {
        each.strip().lower() for each in text(environ, "OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN").split(",")
    }
    return "both" if "logs/dup" in asked else "logs" if "logs" in asked else "events"


def _propagators(environ: Mapping[str, str]) -> tuple[str, ...]:
    names = [name.strip().lower() for name in text(environ, "OTEL_PROPAGATORS").split(",") if name.strip()]
    if "none" in names:
        return ()
    return tuple(dict.fromkeys(names)) or ("tracecontext", "baggage")


def pairs(environ: Mapping[str, str], name: str, warnings: list[str]) -> tuple[tuple[str, str], ...]:
    """Read `key=value,key=value`, percent-encoded. A part that does not fit is left out, and never quoted: it may be a secret."""
    found = []
    for item in filter(None, (item.strip() for item in text(environ, name).split(","))):
        key, equals, value = item.partition("=")
        if not equals or not key.strip():
            warnings.append(f"{name} has an item that is not key=value; it is left out")
            continue
        found.append((unquote(key).strip(), unquote(value).strip()))
    return tuple(found)
