"""The settings of a process: read once, and checked; an error names the source of the value.

Rule 1: command line > environment (`JETRUNNER_<KEY>`, then `NATS_*`) > `[tool.jetrunner]` > default.
Rule 2: a context of the `nats` CLI fills in keys that the level with its name leaves unset; `nats_*` keys of lower levels do not count.
Rule 3: an unknown key is an error; an empty environment variable is an unset one.
Rule 4: no error and no repr shows a credential.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct, structs

from runner import natscontext, values
from runner.core import budget, identity
from runner.core.balancer import Policy
from runner.core.http.authsettings import AuthSettings
from runner.core.http.cors import Cors
from runner.core.http.route import Options, Route
from runner.core.objective import Objective
from runner.errors import SettingsError
from runner.values import did_you_mean, redact

__all__ = ["Settings", "load_settings", "redact"]

SECRET = frozenset({"nats_password", "nats_token"})
UNSHOWN = SECRET | {"nats_url", "auth", "cors", "routes"}
"""Keys whose values no error repeats: a malformed URL may have a password anywhere, and tables are long."""

_PREFIX = "JETRUNNER_"
_NATS_VARIABLES = {
    "nats_url": "NATS_URL",
    "nats_creds": "NATS_CREDS",
    "nats_context": "NATS_CONTEXT",
    "nats_user": "NATS_USER",
    "nats_password": "NATS_PASSWORD",
    "nats_token": "NATS_TOKEN",
    "nats_nkey": "NATS_NKEY",
    "nats_tls_ca": "NATS_CA",
    "nats_tls_cert": "NATS_CERT",
    "nats_tls_key": "NATS_KEY",
}
# Kubernetes gives every pod such variables for a service that is called jetrunner, or jetrunner-something.
_SERVICE_LINK = re.compile(r"JETRUNNER_(\w+_)?(SERVICE_(HOST|PORT\w*)|PORT(_\d+_(TCP|UDP|SCTP)\w*)?)")


class Settings(Struct, frozen=True, kw_only=True):
    """The settings of a process; None: not set."""

    name: str = ""
    """The project's name in NATS; empty outside of a project."""
    nats_url: str = "nats://127.0.0.1:4222"
    """One URL, or several with commas."""
    nats_creds: str | None = None
    """Path of a credentials file."""
    nats_context: str | None = None
    """Name of a context of the `nats` CLI."""
    nats_user: str | None = None
    nats_password: str | None = None
    nats_token: str | None = None
    nats_nkey: str | None = None
    """Path of a seed file."""
    nats_tls_ca: str | None = None
    nats_tls_cert: str | None = None
    nats_tls_key: str | None = None
    nats_tls_first: bool = False
    """Whether TLS begins before the server has sent anything."""
    nats_inbox_prefix: str | None = None
    workers: int | None = None
    """Supervised processes of `runner run`; None: one, in the command's own process."""
    health: str | None = None
    """HOST:PORT of the health endpoints; None for none."""
    http: str | None = None
    """HOST:PORT on which functions with `@route` are served; None for none."""
    http_body_limit: int = 1024 * 1024
    """Most bytes in the body of an HTTP request."""
    http_auth_failures: int = 60
    """Failed authentications a minute after which a client has to wait; 0: no client has to."""
    http_trusted_proxies: tuple[str, ...] = ()
    """Addresses and networks of the proxies that are believed about a client's address and scheme."""
    http_docs: bool = False
    """Whether the gateway serves its OpenAPI document, and a page at /docs to read and try it."""
    drain_timeout: float = 30.0
    """Seconds that running handlers get to finish on SIGTERM."""
    leader_timeout: float = 30.0
    """Seconds that a cluster gets to choose a leader before a command ends with an error."""
    max_bytes_in_flight: int = budget.DEFAULT
    """Most bytes of messages that a process has asked for, or has in work."""
    trace_url: str = "http://localhost:16686/trace/{trace_id}"
    jaeger_url: str = ""
    """The Jaeger that `runner trace` asks; empty: one on the host of `trace_url`."""
    log_level: Literal["debug", "info", "warning", "error", "critical"] = "info"
    log_format: Literal["text", "json"] = "text"
    weight: float = 1.0
    """An instance's share of the requests of askers that balance; the other instances have 1.0 by default."""
    inboxes: tuple[str, ...] = ()
    """Beginnings of the subjects to which answers may go, besides the usual inboxes."""
    objective: Objective = Objective()
    """The share of messages that must succeed, and how soon: `runner status` shows what is left of the error budget."""
    redact: tuple[str, ...] = ("authorization", "cookie")
    """Names of headers and paths into bodies whose values are not shown."""
    balance: Mapping[str, Policy] = {}
    """How an asker chooses one of several instances, by pattern of subjects; the first pattern that fits counts."""
    routes: tuple[Route, ...] = ()
    """Routes of the gateway, from paths to subjects."""
    route_files: tuple[str, ...] = ()
    """Files and folders of Ingress and HTTPRoute manifests."""
    auth: Mapping[str, AuthSettings] = {}
    """Authentications of HTTP clients, by the names that routes have for them."""
    cors: Cors | None = None
    """The origins whose pages may ask over HTTP, if the route does not name them."""
    wire: Literal["fast", "plain"] = "fast"
    """`plain` reads and writes through nats-py alone: slower, for finding faults."""

    def __repr__(self) -> str:
        shown = ((key, _shown(key, getattr(self, key))) for key in self.__struct_fields__)
        return f"Settings({', '.join(f'{key}={value!r}' for key, value in shown)})"


class _Level(Struct, frozen=True):
    """The settings of one source."""

    given: dict[str, Any]
    source: Callable[[str], str]
    """Where a key was found, for errors."""
    folder: Path
    """The folder from which relative paths start."""


def load_settings(
    root: Path, cli: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None
) -> Settings:
    """Read a project's settings; `cli` holds the options that were given (None: not given).

    SettingsError names the key and its source. Files that settings name are not opened, except for that of a context.
    """
    environ = os.environ if environ is None else environ
    found: dict[str, Any] = {}
    connected = False
    for level in (_of_command_line(cli or {}), _of_environment(environ), *_of_project(root)):
        given = {key: _checked(key, value, level) for key, value in level.given.items()}
        if connected:
            given = {key: value for key, value in given.items() if not key.startswith("nats_")}
        found = {**given, **found}
        if name := given.get("nats_context"):
            context = _of_context(name, environ)
            found = {**{key: _checked(key, value, context) for key, value in context.given.items()}, **found}
            connected = True
    settings = structs.replace(Settings(), **found)
    for route in settings.routes:
        require_served(settings, route.name, route.options)
    return settings


def require_served(settings: Settings, who: str, options: Options) -> None:
    """Raise SettingsError if the route `who` names an undeclared authentication, or a body limit above `http_body_limit`."""
    for name in options.auth:
        if name not in settings.auth:
            close = did_you_mean(name, settings.auth) or f"declare it: [tool.jetrunner.auth.{name}]"
            raise SettingsError(f"{who}: there is no auth {name!r}", hint=close)
    if options.body_limit is not None and options.body_limit > settings.http_body_limit:
        raise SettingsError(
            f"{who}: its body_limit is over http_body_limit, {settings.http_body_limit:,} bytes, beyond which no body is taken",
            hint=f"set http_body_limit = {options.body_limit} or more",
        )


def _of_command_line(cli: Mapping[str, Any]) -> _Level:
    given = {key: value for key, value in cli.items() if value is not None}
    return _Level(given, lambda key: "--" + key.replace("_", "-"), Path.cwd())


def _of_environment(environ: Mapping[str, str]) -> _Level:
    given: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for key, variable in _NATS_VARIABLES.items():
        if text := environ.get(variable):
            given[key], sources[key] = text, variable
    for variable, text in environ.items():
        if not variable.startswith(_PREFIX) or _SERVICE_LINK.fullmatch(variable):
            continue
        key = variable.removeprefix(_PREFIX).lower()
        if key not in Settings.__struct_fields__ or not variable.isupper():
            close = did_you_mean(variable, (_PREFIX + field.upper() for field in Settings.__struct_fields__))
            raise SettingsError(f"unknown environment variable {variable}", hint=close)
        if text:
            given[key], sources[key] = text, variable
    return _Level(given, lambda key: sources.get(key, key), Path.cwd())


def _of_context(name: str, environ: Mapping[str, str]) -> _Level:
    file, fields = natscontext.read(name, environ)
    return _Level(fields, lambda key: f"{file}: {key.removeprefix('nats_')}", file.parent)


def _of_project(root: Path) -> Iterator[_Level]:
    file = root / "pyproject.toml"
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    except OSError as error:
        raise SettingsError(f"{file}: {error.strerror}") from None
    except ValueError as error:
        raise SettingsError(f"{file} is not TOML: {error}") from None
    tool = _table(_table(document, "tool", file), "jetrunner", file)
    for key in tool:
        if key not in Settings.__struct_fields__:
            close = did_you_mean(key, Settings.__struct_fields__)
            raise SettingsError(f"{file}: unknown key {key!r} in [tool.jetrunner]", hint=close)
    yield _Level(tool, lambda key: f"{file}: [tool.jetrunner] {key}", root)
    project = _table(document, "project", file)
    if "name" in project and "name" not in tool:
        yield _Level({"name": project["name"]}, lambda key: f"{file}: [project] {key}", root)


def project_version(root: Path) -> str:
    """The version in a project's `pyproject.toml`; 0.0.0 without one."""
    try:
        project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8")).get("project")
    except (OSError, ValueError):
        return "0.0.0"
    found = project.get("version") if isinstance(project, dict) else None
    return found if isinstance(found, str) else "0.0.0"


def _table(document: dict[str, Any], key: str, file: Path) -> dict[str, Any]:
    table = document.get(key, {})
    if not isinstance(table, dict):
        raise SettingsError(f"{file}: {key} is not a table")
    return table


def _checked(key: str, value: Any, level: _Level) -> Any:
    check = _CHECKS.get(key)
    if check is None:
        raise SettingsError(f"unknown setting {key!r}", hint=did_you_mean(key, Settings.__struct_fields__))
    try:
        return check(value, level.folder)
    except ValueError as error:
        shown = "" if key in UNSHOWN else f", not {value!r}"
        raise SettingsError(f"{level.source(key)}: {error}{shown}", hint=getattr(error, "hint", "")) from None


def _shown(key: str, value: Any) -> Any:
    if key in SECRET and value is not None:
        return "***"
    return redact(value) if key == "nats_url" and isinstance(value, str) else value


def _name(value: Any, folder: Path) -> str:
    return identity.project_name(values.text(value, folder))


_CHECKS: dict[str, Callable[[Any, Path], Any]] = {
    "name": _name,
    "nats_url": values.url,
    "nats_creds": values.path,
    "nats_context": values.text,
    "nats_user": values.text,
    "nats_password": values.text,
    "nats_token": values.text,
    "nats_nkey": values.path,
    "nats_tls_ca": values.path,
    "nats_tls_cert": values.path,
    "nats_tls_key": values.path,
    "nats_tls_first": values.switch,
    "nats_inbox_prefix": values.text,
    "workers": values.count,
    "health": values.address,
    "http": values.address,
    "http_body_limit": values.size,
    "http_auth_failures": values.number,
    "http_trusted_proxies": values.networks,
    "http_docs": values.switch,
    "drain_timeout": values.duration,
    "leader_timeout": values.duration,
    "max_bytes_in_flight": values.memory,
    "trace_url": values.trace_url,
    "jaeger_url": values.page,
    "log_level": values.one_of("debug", "info", "warning", "error", "critical"),
    "log_format": values.one_of("text", "json"),
    "weight": values.weight,
    "inboxes": values.beginnings,
    "objective": values.objective,
    "redact": values.paths_into,
    "balance": values.policies,
    "routes": values.routes,
    "route_files": values.paths,
    "auth": values.auth,
    "cors": values.cors,
    "wire": values.one_of("fast", "plain"),
}
