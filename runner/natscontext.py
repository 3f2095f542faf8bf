"""Contexts of the `nats` CLI: files that say how to reach a server, shared with that tool."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runner.errors import SettingsError
from runner.values import did_you_mean

_KEYS = {
    "url": "nats_url",
    "user": "nats_user",
    "password": "nats_password",
    "token": "nats_token",
    "creds": "nats_creds",
    "nkey": "nats_nkey",
    "ca": "nats_tls_ca",
    "cert": "nats_tls_cert",
    "key": "nats_tls_key",
    "tls_first": "nats_tls_first",
    "inbox_prefix": "nats_inbox_prefix",
}
_UNREAD = (
    "nsc",
    "user_jwt",
    "user_seed",
    "socks_proxy",
    "jetstream_domain",
    "jetstream_api_prefix",
    "windows_cert_store",
)
"""Fields that are refused: without them, a connection would go to the wrong place, or have no user."""


def read(name: str, environ: Mapping[str, str]) -> tuple[Path, dict[str, Any]]:
    """The file of a context and its settings; SettingsError when it cannot be read, or has a field that is not supported."""
    folder = _folder(environ)
    file = folder / f"{name}.json"
    if "/" in name or "\\" in name or not file.is_file():
        known = sorted(path.stem for path in folder.glob("*.json")) if folder.is_dir() else []
        hint = (
            did_you_mean(name, known) or f"there are: {', '.join(known)}"
            if known
            else "make one: nats context add"
        )
        raise SettingsError(f"there is no NATS context {name!r} in {folder}", hint=hint)
    try:
        fields = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        # The error itself could quote the file, and so a password.
        raise SettingsError(f"{file} is not a readable NATS context") from None
    if not isinstance(fields, dict):
        raise SettingsError(f"{file} is not a readable NATS context")
    for key in _UNREAD:
        if fields.get(key):
            raise SettingsError(
                f"{file} sets {key}, which is not supported", hint="give --nats-url and --nats-creds instead"
            )
    return file, {ours: fields[theirs] for theirs, ours in _KEYS.items() if fields.get(theirs)}


def _folder(environ: Mapping[str, str]) -> Path:
    configured = environ.get("XDG_CONFIG_HOME")
    home = environ.get("HOME")
    parent = Path(configured) if configured else (Path(home) if home else Path.home()) / ".config"
    return parent / "nats" / "context"
