"""The setting `redact`: where it may come from, and what it may be."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.config import load_settings
from runner.errors import SettingsError


def written(root: Path, value: str) -> Path:
    (root / "pyproject.toml").write_text(f"[tool.jetrunner]\nredact = {value}\n")
    return root


def test_credentials_in_headers_are_hidden_unless_something_else_is_said(tmp_path: Path) -> None:
    assert load_settings(tmp_path, {}, {}).redact == ("authorization", "cookie")
    assert load_settings(written(tmp_path, "[]"), {}, {}).redact == ()


def test_it_is_an_array_in_the_project_and_a_text_in_the_environment(tmp_path: Path) -> None:
    root = written(tmp_path, '["X-Api-Key", "customer.card", "customer.home address"]')
    assert load_settings(root, {}, {}).redact == ("X-Api-Key", "customer.card", "customer.home address")
    assert load_settings(root, {}, {"JETRUNNER_REDACT": "Cookie, a.b"}).redact == ("Cookie", "a.b")


@pytest.mark.parametrize(
    "value", ["1", "true", '{a = "b"}', "[1]", '""', '[""]', '["a..b"]', '[".a"]', '["a."]', '[" a"]', '["a\\nb"]', '["items[].card"]', '["items.*.card"]', '["$.customer.card"]'],
)  # fmt: skip
def test_anything_else_is_an_error_that_says_how_to_write_it(tmp_path: Path, value: str) -> None:
    with pytest.raises(
        SettingsError, match=r"redact: .* expected|redact: a path is names joined by dots"
    ) as told:
        load_settings(written(tmp_path, value), {}, {})
    assert "customer.card" in told.value.hint
