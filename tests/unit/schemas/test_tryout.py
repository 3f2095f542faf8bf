"""The page to try an HTTP edge: one file that loads nothing, in which no text becomes a tag."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from runner.schemas import openapi, tryout
from tests.support import webshop

EVIL = "</script><img src=x onerror=alert(1)><!-- {script} & </style>"


class Read(HTMLParser):
    """What a browser would find: tags with their attributes, and the text in each script and style."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self._inside = ""
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = "document" if dict(attrs).get("type") == "application/json" else tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        self.texts[self._inside] = self.texts.get(self._inside, "") + data


def document(text: str = "shop") -> dict[str, Any]:
    return {**openapi.document(webshop.project(), (), {}), "info": {"title": text, "version": text}}


def digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def test_the_document_stands_in_the_page_as_it_is() -> None:
    found = Read(tryout.page(document()).body)
    assert json.loads(found.texts["document"]) == document()
    assert found.texts["title"] == "shop"


def test_whatever_text_stands_in_the_document_none_becomes_a_tag() -> None:
    plain, evil = Read(tryout.page(document()).body), Read(tryout.page(document(EVIL)).body)
    assert [tag for tag, _ in evil.tags] == [tag for tag, _ in plain.tags]
    assert json.loads(evil.texts["document"])["info"]["title"] == EVIL
    assert evil.texts["script"] == plain.texts["script"]


def test_it_loads_nothing_from_anywhere() -> None:
    found = Read(tryout.page(document()).body)
    linked = [each for _, attributes in found.tags for each in ("src", "href") if attributes.get(each)]
    assert {attributes["href"] for _, attributes in found.tags if attributes.get("href")} == {"openapi.json"}
    assert "src" not in linked
    assert not re.search(r"https?://|innerHTML|document\.write|eval\(", found.texts["script"])
    assert not re.search(r"https?://|@import|url\(", found.texts["style"])


def test_its_policy_lets_its_own_script_and_style_run_and_nothing_else() -> None:
    page = tryout.page(document(EVIL))
    found, headers = Read(page.body), dict(page.headers)
    policy = dict(
        each.strip().split(" ", 1) for each in headers[b"content-security-policy"].decode().split(";")
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == f"'{digest(found.texts['script'])}'"
    assert policy["style-src"] == f"'{digest(found.texts['style'])}'"
    assert headers[b"content-type"] == b"text/html; charset=utf-8"
    assert not any(
        "style" in attributes or any(name.startswith("on") for name in attributes)
        for _, attributes in found.tags
    )


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_its_script_is_javascript() -> None:
    file = Path(tryout.__file__).with_name("tryout.js")
    assert subprocess.run(["node", "--check", file], check=False, capture_output=True).stderr == b""
