"""The authentications of a project, which say who may ask. Their secrets are read from where the settings say."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from runner.core.http import apikeys, webhook
from runner.core.http.apikeys import ApiKeys
from runner.core.http.authsettings import ApiKeySettings, AuthSettings, JwtSettings, WebhookSettings, seconds
from runner.core.http.caller import Caller, Denied
from runner.core.http.webhook import Webhook
from runner.errors import JetrunnerError, SettingsError
from runner.gateway.tokens import Tokens
from runner.gateway.watched import EVERY_SECONDS, Watched

log = logging.getLogger("jetrunner.gateway")

Authentication: TypeAlias = ApiKeys | Tokens | Webhook


class Authentications:
    """All authentications of a project, by name. Their secrets appear in no log, error or repr."""

    def __init__(
        self, settings: Mapping[str, AuthSettings], environ: Mapping[str, str] | None = None
    ) -> None:
        """Raises SettingsError if a secret is missing or not valid."""
        self._settings = settings
        self._environ = os.environ if environ is None else environ
        self._files = tuple(Path(file) for each in settings.values() if (file := _file(each)))
        self._watched = Watched(lambda: self._files)  # before the first reading: no change is missed
        self._known = {name: self._made(name, each) for name, each in settings.items()}

    def __repr__(self) -> str:
        return f"Authentications({', '.join(self._known)})"

    def check(
        self, names: Sequence[str], headers: Sequence[tuple[bytes, bytes]], body: bytes | None, now: float
    ) -> Caller | Denied | None:
        """Find the caller, by the first of these authentications that holds; `now` is in seconds since 1970.

        It is first called without a body, so that the body of a client that may not ask is not read. None means that the body
        decides; then it is called again with the body, and does not give None.
        """
        denied: list[Denied] = []
        waits = False
        for name in names:
            found = self._checked(self._known[name], headers, body, now)
            if isinstance(found, Caller):
                return found
            waits |= found is None
            denied.extend([found] if found is not None else [])
        return None if waits else _together(denied)

    def spent(self, names: Sequence[str], held: str) -> frozenset[bytes]:
        """The headers that are not passed on, in lower case: all that may hold a secret of one of these authentications.

        The authentication `held` has let the request in; it keeps its own header if it has `forward`.
        """
        own = self._settings[held]
        kept = _secret_header(own) if _forwards(own) else b""
        found = (_secret_header(each) for name in names if not _forwards(each := self._settings[name]))
        return frozenset(found) - {kept, b""}

    async def follow(self, every: float = EVERY_SECONDS) -> None:
        """Read the files again whenever they change, for ever. If one is wrong, the log says so, and the known secrets stay."""
        if not self._files:
            return
        async for _ in self._watched.changes(every):
            self.refresh()

    def refresh(self) -> None:
        """Read the files again."""
        for name, settings in self._settings.items():
            if _file(settings) is None:
                continue
            try:
                self._known[name] = self._made(name, settings)
            except JetrunnerError as error:
                log.error("the callers and their rights stay as they were: %s", error)
            except Exception as error:  # noqa: BLE001  # a file that changes ends nothing; its text may be secret
                log.error(
                    "the callers and their rights stay as they were: auth.%s: %s", name, type(error).__name__
                )

    def _checked(
        self, known: Authentication, headers: Sequence[tuple[bytes, bytes]], body: bytes | None, now: float
    ) -> Caller | Denied | None:
        if not isinstance(known, Webhook):
            return known.check(headers)
        return None if body is None else known.check(headers, body, now)

    def _made(self, name: str, settings: AuthSettings) -> Authentication:
        try:
            match settings:
                case ApiKeySettings():
                    return ApiKeys(name, self._keys(settings), settings.header.lower())
                case JwtSettings():
                    return Tokens(name, settings, _text(settings.jwks_file))
                case WebhookSettings():
                    return self._webhook(name, settings)
        except OSError as error:
            raise SettingsError(f"auth.{name}: {_file(settings)} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise SettingsError(f"auth.{name}: {_file(settings)} is not UTF-8 text") from None
        except ValueError as error:
            raise SettingsError(f"auth.{name}: {error}") from None

    def _keys(self, settings: ApiKeySettings) -> Mapping[str, bytes]:
        if settings.keys:
            return dict(apikeys.entry(caller, text) for caller, text in settings.keys.items())
        found = apikeys.entries(self._secret(settings.keys_env, settings.keys_file))
        if not found:
            raise ValueError("there are no keys")
        return found

    def _webhook(self, name: str, settings: WebhookSettings) -> Webhook:
        text = self._secret(settings.secret_env, settings.secret_file)
        secrets = tuple(
            webhook.secret(line.strip(), settings.style) for line in text.splitlines() if line.strip()
        )
        if not secrets:
            raise ValueError("there is no secret")
        return Webhook(
            auth=name,
            style=settings.style,
            secrets=secrets,
            tolerance=seconds(settings.tolerance, "tolerance"),
            header=settings.header.lower(),
            prefix=settings.prefix,
            encoding=settings.encoding,
            timestamp_header=settings.timestamp_header.lower() if settings.timestamp_header else None,
        )

    def _secret(self, variable: str | None, file: str | None) -> str:
        if variable is None:
            return _text(file or "")
        found = self._environ.get(variable)
        if not found:
            raise ValueError(f"the environment variable {variable} is not set")
        return found


def _secret_header(settings: AuthSettings) -> bytes:
    match settings:
        case ApiKeySettings():
            return settings.header.lower().encode()
        case JwtSettings():
            return b"authorization"
        case WebhookSettings():  # a signature is not a secret
            return b""


def _forwards(settings: AuthSettings) -> bool:
    return not isinstance(settings, WebhookSettings) and settings.forward


def _file(settings: AuthSettings) -> str | None:
    match settings:
        case ApiKeySettings():
            return settings.keys_file
        case JwtSettings():
            return settings.jwks_file
        case WebhookSettings():
            return settings.secret_file


def _text(file: str) -> str:
    return Path(file).read_text(encoding="utf-8")


def _together(denied: Sequence[Denied]) -> Denied:
    """One refusal for several: if something wrong was shown, it says so; else it lists all that may be shown."""
    for each in denied:
        if each.status == 403:
            return each
    if len(denied) == 1:
        return denied[0]
    challenges = ", ".join(dict.fromkeys(each.challenge for each in denied))
    return Denied(401, "This path asks who you are.", challenges, any(each.wrong for each in denied))
