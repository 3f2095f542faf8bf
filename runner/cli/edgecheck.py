"""Checks what a project declares for its HTTP edge, without a server."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from runner.bindings import Binding
from runner.config import Settings, require_served
from runner.core.http.backend import Publish, RequestBackend
from runner.core.http.route import Options
from runner.core.streams.capture import StreamSubjects, capture
from runner.core.subject import covers
from runner.errors import JetrunnerError, UsageError
from runner.gateway.declarations import Declarations

FILES = ("keys_file", "jwks_file", "secret_file")


class EdgeFindings(Struct, frozen=True):
    """The problems and warnings of an HTTP edge."""

    problems: tuple[JetrunnerError, ...] = ()
    warnings: tuple[str, ...] = ()


def check(settings: Settings, functions: Sequence[Binding], known: Sequence[StreamSubjects]) -> EdgeFindings:
    """Read the files of routes, and compare declared routes with streams and functions."""
    try:
        warnings = Declarations(settings, functions).remarks()
        for each in functions:
            if each.route is not None:
                require_served(settings, f"function {each.function}", Options(auth=each.route.auth))
    except JetrunnerError as error:
        return EdgeFindings(error.parts or (error,))
    return EdgeFindings(
        tuple(_uncaptured(settings, known)),
        (*warnings, *_unanswered(settings, functions), *_without_secret(settings)),
    )


def _without_secret(settings: Settings) -> Iterator[str]:
    """Warnings of secrets that are missing here: the gateway does not start without them, but may run on another machine."""
    for name, each in settings.auth.items():
        for file in filter(None, (getattr(each, field, None) for field in FILES)):
            if not Path(file).is_file():
                yield f"auth.{name}: there is no file {file} here; the gateway does not start without it"
        variable = getattr(each, "keys_env", None) or getattr(each, "secret_env", None)
        if variable is not None and not os.environ.get(variable):
            yield f"auth.{name}: the environment variable {variable} is not set here; the gateway does not start without it"


def _uncaptured(settings: Settings, known: Sequence[StreamSubjects]) -> Iterator[JetrunnerError]:
    for route in settings.routes:
        for each in route.backends:
            if isinstance(each.backend, Publish):
                try:
                    capture(each.backend.subject.wildcard, known, publishing=True)
                except JetrunnerError as error:
                    yield UsageError(f"{route.name}: {error}", hint=error.hint)


def _unanswered(settings: Settings, functions: Sequence[Binding]) -> Iterator[str]:
    answering = [each.subject.wildcard for each in functions if each.answers is not None]
    for route in settings.routes:
        for each in route.backends:
            if isinstance(each.backend, RequestBackend) and not any(
                covers(pattern, each.backend.subject.wildcard) for pattern in answering
            ):
                yield (
                    f"{route.name}: no function of this project answers on {each.backend.subject.text}; "
                    "where none of another project does, its requests get 503"
                )
