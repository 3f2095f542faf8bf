"""Declared routes: read at the start, and again when their files change."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from pathlib import Path

import pytest

from runner import reply
from runner.bindings import Binding, binding_of
from runner.config import Settings, load_settings
from runner.core.http.route import Route
from runner.errors import SettingsError
from runner.gateway.declarations import Declarations
from runner.gateway.watched import Watched

MANIFEST = """\
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: shop
spec:
  rules:
    - http:
        paths:
          - path: /{path}
            pathType: Prefix
            backend:
              service: {{name: quote, port: {{number: 80}}}}
"""


@reply("quotes")
async def quote(body: bytes) -> bytes:
    return body


def functions() -> Sequence[Binding]:
    found = binding_of(quote)
    assert found is not None
    return [found]


def project(root: Path) -> Settings:
    (root / "routes").mkdir()
    (root / "routes" / "a.yaml").write_text(MANIFEST.format(path="a"))
    (root / "pyproject.toml").write_text(
        '[tool.jetrunner]\nroute_files = ["routes"]\n[[tool.jetrunner.routes]]\npath = "/own"\nrequest = "quotes"\n'
    )
    return load_settings(root, {}, {})


def paths(routes: Sequence[Route]) -> list[str]:
    return [route.path.path for route in routes]


async def next_of(changes: AsyncIterator[Sequence[Route]]) -> list[str]:
    return paths(await asyncio.wait_for(anext(changes), 60))


def test_routes_of_the_settings_come_before_those_of_files(tmp_path: Path) -> None:
    assert paths(Declarations(project(tmp_path), functions()).routes()) == ["/own", "/a"]


def test_a_path_of_a_manifest_that_another_has_is_remarked(tmp_path: Path) -> None:
    settings = project(tmp_path)
    assert Declarations(settings, functions()).remarks() == ()
    (tmp_path / "routes" / "b.yaml").write_text(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: zoo}\nspec:\n  rules:\n"
        "    - matches: [{path: {type: PathPrefix, value: /a}}]\n      backendRefs: [{name: quote, port: 80}]\n"
    )
    (remark,) = Declarations(settings, functions()).remarks()
    assert (
        remark
        == "ingress default/shop: its path /a takes no requests: httproute default/zoo has it, and precedes"
    )


async def test_a_changed_file_gives_all_routes_anew(tmp_path: Path) -> None:
    found = Declarations(project(tmp_path), functions(), every=0.01)
    async with aclosing(found.changes()) as changes:  # type: ignore[type-var]
        first = asyncio.ensure_future(next_of(changes))
        await asyncio.sleep(0)
        (tmp_path / "routes" / "a.yaml").write_text(MANIFEST.format(path="changed"))
        assert await first == ["/own", "/changed"]
        (tmp_path / "routes" / "b.yaml").write_text(MANIFEST.format(path="b").replace("shop", "other"))
        assert await next_of(changes) == ["/own", "/changed", "/b"]
        (tmp_path / "routes" / "a.yaml").unlink()
        assert await next_of(changes) == ["/own", "/b"]


async def test_a_bad_file_changes_nothing_and_is_told_with_its_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = Declarations(project(tmp_path), functions(), every=0.01)
    told = asyncio.Event()

    class Told(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.set()

    logger = logging.getLogger("jetrunner.gateway")
    handler = Told(logging.ERROR)
    logger.addHandler(handler)
    try:
        async with aclosing(found.changes()) as changes:  # type: ignore[type-var]
            first = asyncio.ensure_future(next_of(changes))
            await asyncio.sleep(0)
            (tmp_path / "routes" / "a.yaml").write_text(
                MANIFEST.format(path="a").replace("pathType", "pathtype")
            )
            await asyncio.wait_for(told.wait(), 60)
            assert not first.done()
            (tmp_path / "routes" / "a.yaml").write_text(MANIFEST.format(path="good"))
            assert await first == ["/own", "/good"]
    finally:
        logger.removeHandler(handler)
    assert "routes stay as they were" in caplog.text
    assert "a.yaml:9: spec.rules[0].http.paths[0]" in caplog.text


async def test_where_there_are_no_files_nothing_changes() -> None:
    assert [each async for each in Declarations(Settings(), ()).changes()] == []


def test_what_cannot_be_honoured_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = Declarations(project(tmp_path), ())
    with caplog.at_level(logging.WARNING, "jetrunner.gateway"):
        found.routes()
        found.routes()
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path}/routes/a.yaml:1: ingress default/shop: service quote: the project has no such function; its requests get 503"
    ]  # fmt: skip


def test_an_auth_that_nobody_has_declared_is_an_error(tmp_path: Path) -> None:
    settings = project(tmp_path)
    text = MANIFEST.format(path="a").replace(
        "name: shop", "name: shop\n  annotations: {jetrunner/auth: partners}"
    )
    (tmp_path / "routes" / "a.yaml").write_text(text)
    with pytest.raises(SettingsError, match="ingress default/shop: there is no auth 'partners'"):
        Declarations(settings, functions()).routes()


def test_a_file_counts_as_changed_once_it_stands_still(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text("1")
    watched = Watched(lambda: [file])
    looks = [watched.changed()]
    for text in ("12", "123"):
        file.write_text(text)
        looks.append(watched.changed())
    assert [*looks, watched.changed(), watched.changed()] == [False, False, False, True, False]


def test_another_file_in_its_place_is_a_change(tmp_path: Path) -> None:
    for version in ("1", "2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "a").write_text("x")
        os.utime(tmp_path / version / "a", ns=(1, 1))
    link = tmp_path / "data"
    link.symlink_to("1")
    watched = Watched(lambda: [tmp_path / "data" / "a"])
    (tmp_path / "new").symlink_to("2")
    (tmp_path / "new").rename(link)
    assert [watched.changed(), watched.changed()] == [False, True]
    (tmp_path / "2" / "a").unlink()
    assert [watched.changed(), watched.changed(), watched.changed()] == [False, True, False]
