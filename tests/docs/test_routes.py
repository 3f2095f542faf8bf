"""What the pages on routes show is read as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from runner.config import load_settings
from runner.core.http import authsettings, declared, manifest
from runner.core.http.authsettings import ApiKeySettings, JwtSettings, WebhookSettings
from runner.core.http.backend import FunctionBackend
from runner.core.http.cors import Cors
from runner.gateway import routefile

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference" / "routes.md").read_text()
HOW_TO = (ROOT / "docs" / "howto" / "ingress.md").read_text()
EXAMPLE = ROOT / "docs" / "howto" / "ingress" / "two-services.yaml"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


def test_the_settings_of_the_reference_are_settings(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.jetrunner]\n" + "\n".join(blocks(PAGE, "toml")))
    found = load_settings(tmp_path, {}, {})
    assert [route.name for route in found.routes] == [
        "route POST /orders/{customer}",
        "route GET,POST api.example.com/quotes/{customer}",
    ]
    assert sorted(found.auth) == ["github", "partners", "staff"]
    assert found.cors is not None


@pytest.mark.parametrize(
    "keys", [declared.KEYS, Cors.__struct_fields__, authsettings.KEYS, tuple(manifest.ANNOTATIONS)]
)
def test_every_key_has_its_place(keys: tuple[str, ...]) -> None:
    assert [key for key in keys if f"`{key}" not in PAGE and f"jetrunner/{key}`" not in PAGE] == []


def test_defaults_are_those_of_the_code() -> None:
    keys, hook = ApiKeySettings(keys_env="X"), WebhookSettings(style="generic", secret_env="X")
    token = JwtSettings(jwks_file="x", issuer="i", audience="a")
    assert f"`header` | `{keys.header}`" in PAGE
    assert f"(`{hook.header}`)" in PAGE
    assert f"`leeway` | {token.leeway:g} s" in PAGE
    assert f"`caller` | `{token.caller}`" in PAGE
    assert f"`tolerance` | {hook.tolerance:g} s" in PAGE
    assert f"`max_age` | {Cors(origins=('*',)).max_age}" in PAGE


def test_the_manifest_of_the_how_to_is_the_file_beside_it() -> None:
    assert blocks(HOW_TO, "yaml")[0] == EXAMPLE.read_text()


def test_the_manifests_of_the_how_to_are_routes(tmp_path: Path) -> None:
    example, annotated, canary = blocks(HOW_TO, "yaml")
    body = example[example.index("spec:") :]
    (tmp_path / "a.yaml").write_text(f"{example}---\n{canary}")
    (tmp_path / "b.yaml").write_text(
        f"apiVersion: networking.k8s.io/v1\nkind: Ingress\n{annotated.replace('two-services', 'guarded')}{body}"
    )
    found = routefile.read(
        [tmp_path], {"service1": FunctionBackend("service1"), "service2": FunctionBackend("service2")}
    )
    assert len(found.routes) == 5
    assert [route.options.auth for route in found.routes if route.options.auth] == [("partners",)] * 2
    assert [remark.partition(": ")[2] for remark in found.remarks] == [
        "ingress default/two-services: these annotations are not known here and do nothing: istio.io/v1beta1"
    ]
