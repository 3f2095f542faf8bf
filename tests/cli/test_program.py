"""What every command has in common: help, exit codes, and how a failure is told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from runner.cli import main
from runner.cli.failure import tell
from runner.devserver import find_root
from runner.errors import ServerError, Unreachable, UsageError
from tests.support.project import Project
from tests.support.server import NatsServer


def every_command(group: click.Command = main, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(group, click.Group):
        for name, command in group.commands.items():
            yield from every_command(command, (*path, name))
    else:
        yield path


@pytest.mark.parametrize("path", list(every_command()), ids=" ".join)
def test_every_command_explains_itself_with_an_example(path: tuple[str, ...]) -> None:
    command: click.Command = main
    for name in path:
        assert isinstance(command, click.Group)
        command = command.commands[name]
    text = command.get_help(click.Context(command, info_name="runner " + " ".join(path)))
    assert "Example" in text
    assert f"runner {' '.join(path)}" in text.partition("Example")[2]
    for option in command.params:
        assert not isinstance(option, click.Option) or option.hidden or option.help, option.name


def test_a_groups_list_says_what_its_commands_say() -> None:
    for name in main.commands:
        assert name in main.get_help(click.Context(main))


def test_help_loads_neither_nats_nor_opentelemetry_nor_any_command() -> None:
    code = (
        "import sys\nfrom runner.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as end: code = end.code\n"
        "print(code, sorted({'nats', 'opentelemetry', 'anyio', 'runner.cli.publish'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"


def test_an_unknown_command_is_wrong_usage_and_is_told_what_it_may_mean(
    make_project: Callable[..., Project],
) -> None:
    done = make_project().runner("publsh")
    assert (done.code, done.stdout) == (2, "")
    assert "error: No such command 'publsh'. Did you mean 'publish'?" in done.stderr
    assert "hint: runner --help" in done.stderr


def test_an_unknown_option_is_wrong_usage(make_project: Callable[..., Project]) -> None:
    done = make_project().runner("check", "--nats-ulr", "x")
    assert (done.code, done.stdout) == (2, "")
    assert "hint: runner check --help" in done.stderr


def test_without_arguments_there_is_help_and_it_is_wrong_usage(make_project: Callable[..., Project]) -> None:
    done = make_project().runner()
    assert (done.code, done.stdout) == (2, "")
    assert "Commands:" in done.stderr


def test_a_project_folder_that_is_not_there_is_wrong_usage(make_project: Callable[..., Project]) -> None:
    done = make_project().runner("check", "-C", "nowhere")
    assert done.code == 2
    assert "nowhere" in done.stderr


def test_a_wrong_setting_names_its_source(make_project: Callable[..., Project]) -> None:
    project = make_project(settings='log_lvel = "info"')
    done = project.runner("check")
    assert done.code == 2
    assert "pyproject.toml: unknown key 'log_lvel'" in done.stderr
    assert "hint: did you mean 'log_level'?" in done.stderr
    done = make_project().runner("check", JETRUNNER_LOG_LEVEL="loud")
    assert (done.code, "JETRUNNER_LOG_LEVEL" in done.stderr) == (2, True)


def test_a_project_is_found_from_a_folder_inside_it(
    tmp_path: Path, make_project: Callable[..., Project]
) -> None:
    project = make_project()
    inside = project.root / "functions" / "deep"
    inside.mkdir()
    assert find_root(inside) == project.root.resolve()
    assert find_root(tmp_path) == tmp_path.resolve()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("wrong"), 2),
        (Unreachable("gone"), 3),
        (ServerError("refused"), 1),
        (ValueError("anything"), 1),
        (KeyboardInterrupt(), 130),
        (
            BaseExceptionGroup(
                "tasks", [ValueError("noise"), BaseExceptionGroup("inner", [Unreachable("gone")])]
            ),
            3,
        ),
        (BaseExceptionGroup("tasks", [ValueError("noise"), KeyboardInterrupt()]), 130),
        (SystemExit(7), 7),
    ],
    ids=repr,
)
def test_a_failure_has_its_exit_code(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tell(error) == code
    assert capsys.readouterr().out == ""


def test_the_traceback_of_a_failure_with_words_of_its_own_is_for_the_log_level_debug_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(ServerError("no such luck"))
    assert capsys.readouterr().err == "error: no such luck\n"
    monkeypatch.setenv("JETRUNNER_LOG_LEVEL", "debug")
    tell(ServerError("no such luck"))
    said = capsys.readouterr().err
    assert said.startswith("  runner.errors.ServerError: no such luck\n")
    assert said.endswith("\nerror: no such luck\n")


def test_a_failure_that_no_code_has_foreseen_is_told_with_its_traceback(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def unforeseen() -> None:
        raise ValueError("no such luck")

    with pytest.raises(ValueError, match="no such luck") as raised:
        unforeseen()
    tell(raised.value)
    said = capsys.readouterr().err
    assert "in unforeseen" in said
    assert said.endswith("error: ValueError: no such luck\n")


@pytest.mark.parametrize(
    ("arguments", "code", "message", "hint"),
    [
        (("status", "--output", "json", "--bogus"), 2, "No such option", "runner status --help"),
        (("status", "--bogus", "--output=json"), 2, "No such option", "runner status --help"),
        (("deadletter", "show", "x", "--output", "json"), 2, "is not a valid integer", "runner deadletter show --help"),
        (("deadletter", "shw", "--output", "json"), 2, "No such command", "runner deadletter --help"),
        (("run", "--output", "json"), 2, "No such option", "runner run --help"),
        (("deadletter", "redrive", "--output", "json"), 2, "choose which", "sequences"),
        (("-C", "nowhere", "status", "--output", "json"), 2, "", ""),
        (("status", "-C", "nowhere", "--output", "json"), 2, "does not exist", "runner status --help"),
        (("status", "--nats-url", "nats://127.0.0.1:1", "--output", "json"), 3, "127.0.0.1:1", ""),
        (("function", "invoke", "nothing", "1", "--output", "json"), 2, "nothing", ""),
    ],
)  # fmt: skip
def test_with_output_json_the_error_that_ends_a_command_is_one_line_of_json(
    make_project: Callable[..., Project], arguments: tuple[str, ...], code: int, message: str, hint: str
) -> None:
    project = make_project(functions={"shop": consumer("charge")})
    done = project.runner(*arguments)
    assert (done.code, done.stdout) == (code, "")
    (line,) = done.stderr.splitlines()
    error = json.loads(line)["error"]
    assert set(error) == {"message", "hint", "exit_code"}
    assert message in error["message"]
    assert hint in (error["hint"] or "")
    assert error["exit_code"] == code


def test_an_error_of_others_words_is_json_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    error = UsageError("a\nb \x1b[31m \udcff ∞", hint="")
    assert tell(error, as_json=True) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.isascii()
    assert json.loads(line) == {"error": {"message": "a\nb \x1b[31m ? ∞", "hint": None, "exit_code": 2}}


@pytest.mark.server
def test_a_message_that_is_not_stored_is_an_error_in_json(
    make_project: Callable[..., Project], nats_server: NatsServer
) -> None:
    done = make_project(nats=nats_server.url).runner("publish", "orders.x", "1", "--output", "json")
    error = json.loads(done.stderr)["error"]
    assert (done.code, done.stdout, error["message"]) == (1, "", "no stream captures orders.x")
    assert "runner apply" in error["hint"]


@pytest.mark.server
def test_ctrl_c_ends_with_130(make_project: Callable[..., Project], nats_server: NatsServer) -> None:
    project = make_project(nats=nats_server.url)
    publishing = subprocess.Popen(
        [sys.executable, "-m", "runner", "publish", "orders.created", "--lines", "-"],
        cwd=project.root,
        env=project.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert publishing.stdin is not None
    assert publishing.stderr is not None
    publishing.stdin.write(b"x\n")
    publishing.stdin.flush()
    assert b"no stream captures" in publishing.stderr.readline()
    publishing.send_signal(signal.SIGINT)
    publishing.communicate(timeout=60)
    assert publishing.returncode == 130


def test_a_reader_that_goes_away_gets_no_traceback(make_project: Callable[..., Project]) -> None:
    project = make_project(functions={f"m{at}": consumer(f"f{at}") for at in range(3)})
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "runner", "function", "list"],
        cwd=project.root,
        env=project.environment,
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")


def consumer(name: str) -> str:
    return f"""
        from runner import consume

        @consume("orders.{name}")
        async def {name}(body: bytes) -> None: ...
    """
