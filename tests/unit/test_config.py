"""Settings: which source wins, what is refused, and that nothing shows a credential."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.config import Settings, load_settings, redact
from runner.errors import SettingsError


def written(root: Path, text: str) -> Path:
    (root / "pyproject.toml").write_text(text)
    return root


def test_without_any_source_the_defaults_hold(tmp_path: Path) -> None:
    assert load_settings(tmp_path, {}, {}) == Settings()
    assert Settings().nats_url == "nats://127.0.0.1:4222"
    assert Settings().drain_timeout == 30.0


def test_the_command_line_wins_over_the_environment_over_the_project(tmp_path: Path) -> None:
    root = written(tmp_path, '[tool.jetrunner]\nname = "shop"\nworkers = 2\nlog_level = "DEBUG"\n')
    assert load_settings(root, {}, {}).workers == 2
    assert load_settings(root, {}, {"JETRUNNER_WORKERS": "3"}).workers == 3
    assert load_settings(root, {"workers": 4}, {"JETRUNNER_WORKERS": "3"}).workers == 4
    assert load_settings(root, {"workers": None}, {"JETRUNNER_WORKERS": ""}).workers == 2
    assert load_settings(root, {}, {}).log_level == "debug"


def test_variables_of_nats_come_after_our_own(tmp_path: Path) -> None:
    environ = {"NATS_URL": "nats://theirs:1", "NATS_USER": "u", "NATS_CA": "/ca.pem"}
    assert load_settings(tmp_path, {}, environ).nats_url == "nats://theirs:1"
    assert load_settings(tmp_path, {}, environ).nats_user == "u"
    assert load_settings(tmp_path, {}, environ).nats_tls_ca == "/ca.pem"
    assert (
        load_settings(tmp_path, {}, {**environ, "JETRUNNER_NATS_URL": "ours:2"}).nats_url == "nats://ours:2"
    )
    written(tmp_path, '[tool.jetrunner]\nnats_url = "nats://project:3"\n')
    assert load_settings(tmp_path, {}, environ).nats_url == "nats://theirs:1"


def test_the_name_is_the_projects_unless_told(tmp_path: Path) -> None:
    root = written(tmp_path, '[project]\nname = "my.shop"\n')
    assert load_settings(root, {}, {}).name == "my-shop"
    written(tmp_path, '[project]\nname = "my.shop"\n[tool.jetrunner]\nname = "shop"\n')
    assert load_settings(root, {}, {}).name == "shop"
    assert load_settings(root, {}, {"JETRUNNER_NAME": "other"}).name == "other"


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("nats_url", "a:1,tls://b:2", "nats://a:1,tls://b:2"),
        ("nats_url", "nats://u:p@[::1]:4222", "nats://u:p@[::1]:4222"),
        ("nats_creds", "/etc/x.creds", "/etc/x.creds"),
        ("nats_tls_first", "yes", True),
        ("nats_tls_first", "0", False),
        ("workers", "8", 8),
        ("health", "127.0.0.1:8080", "127.0.0.1:8080"),
        ("health", ":8080", "0.0.0.0:8080"),
        ("health", "[::]:8080", "[::]:8080"),
        ("drain_timeout", "1m", 60.0),
        ("drain_timeout", "2.5", 2.5),
        ("leader_timeout", "90s", 90.0),
        ("max_bytes_in_flight", "128MiB", 128 << 20),
        ("max_bytes_in_flight", "2000000", 2_000_000),
        ("trace_url", "https://traces/{trace_id}", "https://traces/{trace_id}"),
        ("jaeger_url", "http://traces:16686", "http://traces:16686"),
        ("log_level", "Warning", "warning"),
        ("wire", "plain", "plain"),
    ],
)
def test_a_variable_is_read_as_its_setting(tmp_path: Path, key: str, text: str, value: Any) -> None:
    assert getattr(load_settings(tmp_path, {}, {"JETRUNNER_" + key.upper(): text}), key) == value


def test_a_toml_value_is_read_as_its_setting(tmp_path: Path) -> None:
    text = '[tool.jetrunner]\nnats_url = ["a:1", "b:2"]\nnats_tls_first = true\ndrain_timeout = 5\nnats_creds = "x.creds"\n'
    settings = load_settings(written(tmp_path, text), {}, {})
    assert settings.nats_url == "nats://a:1,nats://b:2"
    assert settings.nats_tls_first is True
    assert settings.drain_timeout == 5.0
    assert settings.nats_creds == str(tmp_path / "x.creds")


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("name", "my shop"),
        ("nats_url", "http://a"),
        ("nats_url", ","),
        ("nats_tls_first", "perhaps"),
        ("workers", "0"),
        ("workers", "many"),
        ("health", "8080"),
        ("health", "a:99999"),
        ("drain_timeout", "soon"),
        ("leader_timeout", "long"),
        ("max_bytes_in_flight", "1000"),
        ("max_bytes_in_flight", "much"),
        ("trace_url", "https://traces/"),
        ("jaeger_url", "traces:16686"),
        ("log_level", "loud"),
        ("wire", "none"),
    ],
)
def test_a_wrong_value_names_its_source(tmp_path: Path, key: str, text: str) -> None:
    variable = "JETRUNNER_" + key.upper()
    with pytest.raises(SettingsError, match=f"^{variable}: "):
        load_settings(tmp_path, {}, {variable: text})
    with pytest.raises(SettingsError, match=f"^--{key.replace('_', '-')}: "):
        load_settings(tmp_path, {key: text}, {})
    with pytest.raises(SettingsError, match=rf"pyproject\.toml: \[tool\.jetrunner\] {key}: "):
        load_settings(written(tmp_path, f"[tool.jetrunner]\n{key} = {json.dumps(text)}\n"), {}, {})


def test_an_unknown_key_is_an_error_with_a_guess(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="unknown environment variable JETRUNNER_WORKER") as caught:
        load_settings(tmp_path, {}, {"JETRUNNER_WORKER": "3"})
    assert caught.value.hint == "did you mean 'JETRUNNER_WORKERS'?"
    with pytest.raises(SettingsError, match="unknown key 'nats-url'") as caught:
        load_settings(written(tmp_path, '[tool.jetrunner]\nnats-url = "x"\n'), {}, {})
    assert caught.value.hint == "did you mean 'nats_url'?"
    with pytest.raises(SettingsError, match="unknown setting 'nat_url'"):
        load_settings(tmp_path / "none", {"nat_url": "x"}, {})


@pytest.mark.parametrize(
    "variable",
    [
        "JETRUNNER_SERVICE_HOST",
        "JETRUNNER_SERVICE_PORT_HTTP",
        "JETRUNNER_PORT",
        "JETRUNNER_PORT_8080_TCP_ADDR",
        "JETRUNNER_HEALTH_PORT_8080_TCP",
        "JETRUNNER_HEALTH_SERVICE_HOST",
    ],
)
def test_the_service_variables_of_kubernetes_are_none_of_ours(tmp_path: Path, variable: str) -> None:
    assert load_settings(tmp_path, {}, {variable: "tcp://10.0.0.1:8080"}) == Settings()


@pytest.mark.parametrize("text", ["[tool.jetrunner", "tool = 3", "[tool]\njetrunner = 3", "\ud800"])
def test_a_broken_project_file_is_an_error_naming_it(tmp_path: Path, text: str) -> None:
    (tmp_path / "pyproject.toml").write_bytes(text.encode(errors="surrogatepass"))
    with pytest.raises(SettingsError, match=r"pyproject\.toml"):
        load_settings(tmp_path, {}, {})


def test_a_project_file_that_is_not_toml_says_so(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.jetrunner")
    with pytest.raises(SettingsError, match=r"pyproject\.toml is not TOML: "):
        load_settings(tmp_path, {}, {})


@pytest.fixture
def nats_context(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """Write a context of the nats CLI; returns the environment in which it is found."""

    def make(name: str = "prod", **fields: Any) -> dict[str, str]:
        folder = tmp_path / "config" / "nats" / "context"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.json").write_text(json.dumps(fields))
        return {"XDG_CONFIG_HOME": str(tmp_path / "config")}

    return make


def test_a_context_of_the_nats_cli_gives_the_connection(
    tmp_path: Path, nats_context: Callable[..., dict[str, str]]
) -> None:
    environ = nats_context(
        url="nats://prod:4222", user="u", password="p", creds="", tls_first=True, ca="ca.pem"
    )
    settings = load_settings(tmp_path, {"nats_context": "prod"}, environ)
    assert (settings.nats_url, settings.nats_user, settings.nats_password) == ("nats://prod:4222", "u", "p")
    assert (settings.nats_creds, settings.nats_tls_first) == (None, True)
    assert settings.nats_tls_ca == str(tmp_path / "config" / "nats" / "context" / "ca.pem")


def test_a_context_gives_way_to_its_own_level_and_hides_the_ones_below(
    tmp_path: Path, nats_context: Callable[..., dict[str, str]]
) -> None:
    environ = nats_context(url="nats://prod:4222", user="u") | {
        "NATS_URL": "nats://env:1",
        "NATS_TOKEN": "t",
        "JETRUNNER_WORKERS": "2",
    }
    settings = load_settings(tmp_path, {"nats_context": "prod"}, environ)
    assert (settings.nats_url, settings.nats_token, settings.workers) == ("nats://prod:4222", None, 2)
    both = load_settings(tmp_path, {"nats_context": "prod", "nats_url": "nats://cli:1"}, environ)
    assert (both.nats_url, both.nats_user) == ("nats://cli:1", "u")


def test_a_context_is_found_in_the_home_folder(
    tmp_path: Path, nats_context: Callable[..., dict[str, str]]
) -> None:
    nats_context(url="nats://prod:4222")
    (tmp_path / "config").rename(tmp_path / ".config")
    environ = {"HOME": str(tmp_path), "NATS_CONTEXT": "prod"}
    assert load_settings(tmp_path, {}, environ).nats_url == "nats://prod:4222"


@pytest.mark.parametrize("name", ["pord", "../prod", "x/y"])
def test_a_context_that_is_not_there_is_an_error(
    tmp_path: Path, nats_context: Callable[..., dict[str, str]], name: str
) -> None:
    environ = nats_context(url="nats://prod:4222")
    with pytest.raises(SettingsError, match="there is no NATS context"):
        load_settings(tmp_path, {"nats_context": name}, environ)


def test_a_context_that_wants_more_than_we_can_is_an_error(
    tmp_path: Path, nats_context: Callable[..., dict[str, str]]
) -> None:
    environ = nats_context(url="nats://prod:4222", nsc="nsc://operator/account/user")
    with pytest.raises(SettingsError, match="sets nsc, which is not supported"):
        load_settings(tmp_path, {"nats_context": "prod"}, environ)


def test_a_wrong_value_in_a_context_names_the_file(
    tmp_path: Path, nats_context: Callable[..., dict[str, str]]
) -> None:
    environ = nats_context(url="http://prod", password="s3cret")
    with pytest.raises(SettingsError, match=r"prod\.json: url: a NATS URL") as caught:
        load_settings(tmp_path, {"nats_context": "prod"}, environ)
    assert "s3cret" not in str(caught.value)


SECRETS = {
    "nats_url": "nats://user:s3cret@host:4222",
    "nats_password": "s3cret",
    "nats_token": "s3cret",
}


def test_the_repr_shows_no_credential(tmp_path: Path) -> None:
    settings = load_settings(tmp_path, SECRETS, {})
    assert settings.nats_password == "s3cret"
    assert "s3cret" not in repr(settings)
    assert "s3cret" not in str(settings)
    assert "nats://***@host:4222" in repr(settings)


@pytest.mark.parametrize("key", ["nats_url", "nats_password", "nats_token"])
@pytest.mark.parametrize(
    "value", ["nats://user:s3cret", "http://user:s3cret@host", ["s3cret"], {"s3cret": 1}]
)
def test_no_error_shows_a_credential(tmp_path: Path, key: str, value: Any) -> None:
    try:
        load_settings(tmp_path, {key: value}, {})
    except SettingsError as error:
        shown = f"{error!r} {error.__cause__!r}"
    else:
        shown = ""
    assert "s3cret" not in shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("nats://host:4222", "nats://host:4222"),
        ("nats://u:p@host:4222", "nats://***@host:4222"),
        ("nats://token@host", "nats://***@host"),
        ("u:p@host:4222", "***@host:4222"),
        ("nats://u:p@a,tls://u:p@b:1", "nats://***@a,tls://***@b:1"),
        ("nats://a,nats://u:p@b", "nats://a,nats://***@b"),
        ("nats://u:p/p,p@p@host", "nats://***@host"),
        ("", ""),
    ],
)
def test_a_url_is_shown_without_its_user(url: str, shown: str) -> None:
    assert redact(url) == shown
