"""`runner new`: what it makes runs, and passes every check."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Callable
from typing import Any

import pytest

from runner.cli.requirement import address, requirement
from tests.support.project import Project


def test_a_new_project_is_well_and_its_test_passes(make_project: Callable[..., Project]) -> None:
    project = make_project()
    done = project.runner("new", "bakery")
    assert done.code == 0
    assert "bakery/functions/greet.py" in done.stdout.splitlines()
    assert "next: cd bakery && runner dev" in done.stderr
    checked = project.runner("check", "-C", "bakery")
    assert (checked.code, checked.stdout) == (0, "bakery: 1 function, 2 streams, all well\n")
    invoked = project.runner(
        "function", "invoke", "greet", "-C", "bakery", "--subject", "signups.ada", '{"name": "Ada"}'
    )
    assert invoked.stdout.split()[:2] == ["output", "greetings.ada"]
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly"],
        cwd=project.root / "bakery", env=project.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert tested.returncode == 0, tested.stdout


def test_a_new_project_depends_on_the_package_that_made_it(make_project: Callable[..., Project]) -> None:
    project = make_project()
    assert project.runner("new", "bakery").code == 0
    settings = tomllib.loads((project.root / "bakery" / "pyproject.toml").read_text())
    assert settings["project"]["dependencies"] == [requirement()]
    assert requirement("dev") in settings["dependency-groups"]["dev"]


@pytest.mark.parametrize(
    ("direct", "written"),
    [
        ({}, ""),
        ({"url": "file:///opt/jetrunner", "dir_info": {"editable": True}}, "file:///opt/jetrunner"),
        ({"url": "file:///opt/jetrunner-0.1.0.whl", "archive_info": {}}, "file:///opt/jetrunner-0.1.0.whl"),
        (
            {"url": "https://git.example/jetrunner", "vcs_info": {"vcs": "git", "commit_id": "4fd1"}},
            "git+https://git.example/jetrunner@4fd1",
        ),
    ],
)
def test_the_dependency_says_where_the_package_came_from(direct: dict[str, Any], written: str) -> None:
    assert address(direct) == written


def test_json_lists_the_files(make_project: Callable[..., Project]) -> None:
    project = make_project()
    document = project.json("new", "shop.eu")
    assert document["name"] == "shop-eu"
    assert all((project.root / "shop.eu" / file).is_file() for file in document["files"])


def test_a_folder_that_is_in_use_is_left_alone(make_project: Callable[..., Project]) -> None:
    project = make_project()
    done = project.runner("new", "functions")
    assert (done.code, done.stdout) == (2, "")
    assert "error: functions is there already" in done.stderr


@pytest.mark.parametrize("name", ["_shop", "shop-", "jetrunner", "shöp"])
def test_a_name_that_no_installer_takes_is_wrong_usage(
    make_project: Callable[..., Project], name: str
) -> None:
    project = make_project()
    assert project.runner("new", "--", name).code == 2
    assert not (project.root / name).exists()


def test_the_next_step_can_be_pasted(make_project: Callable[..., Project]) -> None:
    assert "next: cd 'my shops/one' && runner dev" in make_project().runner("new", "my shops/one").stderr


def test_a_name_that_nats_cannot_take_is_wrong_usage(make_project: Callable[..., Project]) -> None:
    done = make_project().runner("new", "my shop")
    assert done.code == 2
    assert "project name 'my shop'" in done.stderr
