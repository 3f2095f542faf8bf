"""`runner dev` reloads when the project's own code changes, wherever it is, and runs without watchfiles, too."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.process import codefiles
from tests.support.dev import ORDERS, said, started, version
from tests.support.project import Project

pytestmark = pytest.mark.server

IMPORTING = """
    from journal import note
    from runner import consume
    from {module} import VERSION

    @consume("orders.*")
    async def charge(body: bytes) -> None:
        note("charge", version=VERSION)
"""
LAZY = """
    from journal import note
    from runner import consume

    @consume("orders.*")
    async def charge(body: bytes) -> None:
        from rates.lazy import VERSION

        note("charge", version=VERSION)
"""


def write(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def replace(file: Path, text: str) -> None:
    """In one step, as most editors do: a file that is emptied and then written may be seen to change twice."""
    write(file.with_suffix(".tmp"), text).replace(file)


@pytest.fixture
def shop(make_project: Callable[..., Project]) -> Callable[[str], Project]:
    """A shop whose function takes its version from a module."""
    return lambda module: make_project(
        functions={"shop": IMPORTING.format(module=module)}, streams={"orders": ORDERS}
    )


@pytest.mark.parametrize(
    ("module", "file"),
    [
        pytest.param("rates", "rates.py", marks=pytest.mark.thorough),
        pytest.param("rates.table", "rates/table.py", marks=pytest.mark.thorough),
        ("rates.eu.table", "rates/eu/table.py"),
        ("functions._rates", "functions/_rates.py"),
    ],
)
def test_a_module_of_the_project_is_watched(shop: Callable[[str], Project], module: str, file: str) -> None:
    project = shop(module)
    code = write(project.root / file, "VERSION = 1\n")
    dev = started(project)
    assert version(project) == 1
    for at in (2, 3):
        replace(code, f"VERSION = {at}\n")
        said(dev, "dev ready in", at)
        assert version(project) == at, dev.output
    assert [line for line in dev.stderr if "changed" in line] == [f"dev {file} changed"] * 2


def test_a_module_outside_of_the_project_is_watched(shop: Callable[[str], Project], tmp_path: Path) -> None:
    project = shop("common.rates")
    code = write(tmp_path / "libraries" / "src" / "common" / "rates.py", "VERSION = 1\n")
    dev = started(project, PYTHONPATH=str(tmp_path / "libraries" / "src"))
    assert version(project) == 1
    replace(code, "VERSION = 2\n")
    dev.line(f"dev {code} changed")
    said(dev, "dev ready in", 2)
    assert version(project) == 2


def test_a_mistake_in_such_a_module_is_mended_there(shop: Callable[[str], Project], tmp_path: Path) -> None:
    project = shop("common.rates")
    folder = tmp_path / "libraries" / "common"
    write(folder / "__init__.py", "")
    code = write(folder / "rates.py", "VERSION = = 1\n")
    dev = project.start("dev", PYTHONPATH=str(tmp_path / "libraries"))
    dev.line("waiting for a change")
    replace(code, "VERSION = 1\n")
    dev.line("dev ready in")
    assert version(project) == 1


def test_a_module_that_comes_later_is_noticed(shop: Callable[[str], Project]) -> None:
    project = shop("rates.eu.table")
    dev = project.start("dev")
    dev.line("No module named 'rates'")
    dev.line("waiting for a change")
    code = write(project.root / "rates" / "eu" / "table.py", "VERSION = 1\n")
    dev.line("dev ready in")
    assert version(project) == 1
    replace(code, "VERSION = 2\n")
    said(dev, "dev ready in", 2)
    assert version(project) == 2


def test_a_module_that_a_handler_imports_late_is_watched(make_project: Callable[..., Project]) -> None:
    project = make_project(functions={"shop": LAZY}, streams={"orders": ORDERS})
    code = write(project.root / "rates" / "lazy.py", "VERSION = 1\n")
    dev = started(project)
    assert version(project) == 1
    replace(code, "VERSION = 2\n")
    said(dev, "dev ready in", 2)
    assert version(project) == 2


def test_what_is_no_code_of_the_projects_is_no_change(shop: Callable[[str], Project]) -> None:
    project = shop("rates.table")
    code = write(project.root / "rates" / "table.py", "VERSION = 1\n")
    write(project.root / "env" / "pyvenv.cfg", "home = /usr\n")
    dev = started(project)
    for file in (
        "env/lib/installed.py",
        "node_modules/gyp/gyp.py",
        ".git/hook.py",
        "tests/test_rates.py",
        "rates/test_table.py",
        "rates/__pycache__/table.cpython-311.pyc",
        "functions/__pycache__/shop.cpython-311.pyc",
        "rates/.#table.py",
        "rates/table.json",
        "data.csv",
    ):
        write(project.root / file, "x = 1\n")
    replace(code, "VERSION = 2\n")
    said(dev, "dev ready in", 2)
    assert version(project) == 2
    assert [line for line in dev.stderr if "changed" in line] == ["dev rates/table.py changed"]


def test_the_projects_folders_are_found(tmp_path: Path) -> None:
    for file in (
        "main.py", "src/shop/rates.py", "lib/README", "data/2026/a.csv", ".venv/lib/a.py", "env/pyvenv.cfg", "env/a.py",
        "functions/a.py", "tests/test_a.py", "web/node_modules/gyp/a.py",
    ):  # fmt: skip
        write(tmp_path / file, "")
    (tmp_path / "src" / "new").mkdir()
    (tmp_path / "src" / "shop" / "loop").symlink_to(tmp_path)
    found = codefiles.find(tmp_path, ())
    folders = {str(Path(folder).relative_to(tmp_path)) for folder in found.folders}
    assert folders == {".", "src", "src/shop", "src/new", "lib", "data", "web"}
    assert {str(Path(file).relative_to(tmp_path)) for file in found.stamps} == {
        "main.py",
        "src/shop/rates.py",
    }


def test_without_watchfiles_it_runs_and_says_once_that_nothing_reloads(
    shop: Callable[[str], Project],
) -> None:
    project = shop("rates")
    code = write(project.root / "rates.py", "VERSION = 1\n")
    write(project.root / "watchfiles.py", "raise ImportError('not installed')\n")
    dev = started(project)
    assert dev.stderr[0].startswith("dev watchfiles is missing: a change needs a new start")
    assert dev.stderr[1].startswith("dev NATS at")
    replace(code, "VERSION = 2\n")
    time.sleep(1.5)  # nothing happens, which has no event
    assert version(project) == 1
    dev.interrupt()
    assert dev.wait() == 0
    assert sum("watchfiles" in line for line in dev.stderr) == 1


def test_without_watchfiles_a_mistake_ends_it(shop: Callable[[str], Project]) -> None:
    project = shop("rates")
    write(project.root / "watchfiles.py", "raise ImportError('not installed')\n")
    done = project.runner("dev")
    assert done.code == 2
    assert "No module named 'rates'" in done.stderr
    assert "error: nothing runs\nhint: mend what is told above" in done.stderr
    assert not (project.root / ".jetrunner" / "nats-url").exists()


def test_modules_that_somebody_installed_are_not_watched(tmp_path: Path) -> None:
    own = codefiles.imported_elsewhere(tmp_path)
    assert str(Path(pytest.__file__).parent) not in own
    assert str(Path(sys.modules["json"].__file__ or "").parent) not in own
    assert not [folder for folder in own if "/runner" in folder]
