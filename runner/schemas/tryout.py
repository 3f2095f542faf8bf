"""The page on which people read about an HTTP edge and try its routes: one file, which loads nothing from anywhere."""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct


class TryoutPage(Struct, frozen=True):
    """The page, and the headers of the response that carries it."""

    body: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    """The content type, and a policy under which the browser runs only the page's own script, and asks only its own host."""


def page(document: Mapping[str, Any]) -> TryoutPage:
    """The page that shows an OpenAPI document."""
    style, script = _part("tryout.css"), _part("tryout.js")
    parts = {
        "title": html.escape(str(document["info"]["title"])),
        "style": style,
        "document": _inert(msgspec.json.encode(document).decode()),
        "script": script,
    }
    body = _part("tryout.html")
    for name, text in parts.items():
        before, _, after = body.partition("{" + name + "}")
        parts[name] = before + text
        body = after
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    headers = (
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-security-policy", policy.encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
    )
    return TryoutPage(("".join(parts.values()) + body).encode(), headers)


def _inert(text: str) -> str:
    """The JSON with `<`, `>` and `&` escaped, so that no text in it ends the script element: a docstring may hold `</script>`."""
    return text.replace("<", r"\u003c").replace(">", r"\u003e").replace("&", r"\u0026")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@cache
def _part(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")
