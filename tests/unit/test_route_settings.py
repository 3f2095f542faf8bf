"""Settings of the HTTP edge: where they come from, and what their errors name."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.config import load_settings
from runner.core.http.authsettings import ApiKeySettings
from runner.errors import SettingsError

ROUTES = """\
[tool.jetrunner]
route_files = ["routes", "more.yaml"]
[[tool.jetrunner.routes]]
path = "/orders/{customer}"
publish = "orders.{customer}"
auth = "partners"
[tool.jetrunner.auth.partners]
kind = "api_key"
keys_file = "keys"
"""


def written(root: Path, text: str) -> Path:
    (root / "pyproject.toml").write_text(text)
    return root


def test_routes_and_who_may_take_them_stand_in_the_project(tmp_path: Path) -> None:
    found = load_settings(written(tmp_path, ROUTES), {}, {})
    assert [route.name for route in found.routes] == ["route POST /orders/{customer}"]
    assert found.auth == {"partners": ApiKeySettings(keys_file=str(tmp_path / "keys"))}
    assert found.route_files == (str(tmp_path / "routes"), str(tmp_path / "more.yaml"))


def test_files_of_routes_on_the_command_line_start_from_where_it_is_given(tmp_path: Path) -> None:
    root = written(tmp_path, ROUTES)
    assert load_settings(root, {"route_files": ("edge.yaml",)}, {}).route_files == (
        str(Path.cwd() / "edge.yaml"),
    )
    assert load_settings(root, {}, {"JETRUNNER_ROUTE_FILES": "edge.yaml"}).route_files == (
        str(Path.cwd() / "edge.yaml"),
    )


@pytest.mark.parametrize(
    ("change", "why", "hint"),
    [
        (("path =", "pathh ="), r"\[tool.jetrunner\] routes: route 1: contains unknown field pathh", "did you mean 'path'?"),
        (("kind =", "knid ="), r"\[tool.jetrunner\] auth: auth.partners: missing required field kind", ""),
        (("keys_file =", "key_file ="), "auth.partners: contains unknown field key_file", "did you mean 'keys_file'?"),
        (('auth = "partners"', 'auth = "partner"'), "route POST .*: there is no auth 'partner'", "did you mean 'partners'?"),
        (('auth = "partners"', 'auth = "x"'), "there is no auth 'x'", r"declare it: [tool.jetrunner.auth.x]"),
        (('auth = "partners"', 'body_limit = "2MiB"'), "its body_limit is over http_body_limit, 1,048,576 bytes", "set http_body_limit = 2097152 or more"),
        (('keys_file = "keys"', 'keys = {acme = "k-secret-7f3a9c0d51"}'), "the key of 'acme' would stand here for all to read", ""),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_source_and_no_secret(
    tmp_path: Path, change: tuple[str, str], why: str, hint: str
) -> None:
    with pytest.raises(SettingsError, match=why) as raised:
        load_settings(written(tmp_path, ROUTES.replace(*change)), {}, {})
    assert raised.value.hint == hint
    assert "7f3a9c0d51" not in str(raised.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("routes", '"/a"'),
        ("routes", "[1]"),
        ("auth", '"x"'),
        ("route_files", "1"),
        ("cors", "1"),
        ("cors", "{}"),
    ],
)
def test_what_is_no_table_is_told(tmp_path: Path, key: str, value: str) -> None:
    with pytest.raises(SettingsError, match=rf"\[tool.jetrunner\] {key}: "):
        load_settings(written(tmp_path, f"[tool.jetrunner]\n{key} = {value}\n"), {}, {})


def test_origins_that_hold_for_all_routes_stand_in_a_table(tmp_path: Path) -> None:
    text = '[tool.jetrunner]\ncors = { origins = ["https://app.example.com"] }\n'
    found = load_settings(written(tmp_path, text), {}, {}).cors
    assert found is not None
    assert found.origins == ("https://app.example.com",)
    with pytest.raises(SettingsError, match="cors: contains unknown field origin") as raised:
        load_settings(written(tmp_path, text.replace("origins", "origin")), {}, {})
    assert raised.value.hint == "did you mean 'origins'?"
