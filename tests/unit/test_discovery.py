"""Finding what a project binds, and telling file and line of what is wrong in it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runner import discovery
from runner.errors import BindingError, SettingsError, UsageError

Make = Callable[..., Path]

BOUND = """
from runner import consume

@consume("orders.{subject}")
async def {name}(order): ...
"""


def bound(name: str, subject: str = "created") -> str:
    return BOUND.replace("{name}", name).replace("{subject}", subject)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Make]:
    """Write a project's files: `project(orders=SOURCE, **{"deep/__init__": ""})`."""
    path, modules = list(sys.path), set(sys.modules)

    def make(settings: str = '[tool.jetrunner]\nname = "shop"\n', **files: str) -> Path:
        (tmp_path / "pyproject.toml").write_text(settings)
        for name, source in {"__init__": "", **files}.items():
            file = tmp_path / "functions" / f"{name}.py"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(source)
        return tmp_path

    yield make
    discovery.unload()
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def names(root: Path) -> list[str]:
    return [binding.function for binding in discovery.load(root).functions]


def test_every_module_is_imported_but_those_with_an_underscore(project: Make) -> None:
    root = project(
        __init__=bound("here"),
        payments=bound("pay"),
        orders=bound("charge") + bound("refund"),
        _private="raise SystemExit",
        **{"deep/__init__": "", "deep/down": bound("deep"), "_hidden/__init__": "raise SystemExit"},
    )
    found = discovery.load(root)
    assert (found.root, found.name) == (root.resolve(), "shop")
    assert [binding.function for binding in found.functions] == ["here", "charge", "refund", "pay", "deep"]
    assert found.functions[1].handler.__module__ == "functions.orders"
    assert found.functions[1].file == str(root / "functions" / "orders.py")


def test_a_function_imported_from_another_module_counts_once(project: Make) -> None:
    root = project(
        a="from functions._shared import charge\nfrom functions.b import refund",
        b=bound("refund"),
        _shared=bound("charge"),
    )
    assert sorted(names(root)) == ["charge", "refund"]


def test_functions_made_in_a_loop_are_found(project: Make) -> None:
    root = project(
        orders="""
from runner import consume
for place in ("berlin", "paris"):
    @consume(f"orders.{place}", name=f"charge_{place}")
    async def charge(order): ...
"""
    )
    assert names(root) == ["charge_berlin", "charge_paris"]


def test_string_annotations_may_name_what_comes_later(project: Make) -> None:
    root = project(
        orders="""
from __future__ import annotations
from msgspec import Struct
from runner import consume

@consume("orders")
async def charge(order: Order): ...

class Order(Struct):
    id: str
"""
    )
    (binding,) = discovery.load(root).functions
    assert binding.signature.body is not None
    assert binding.signature.body.annotation is sys.modules["functions.orders"].Order


def test_an_annotation_imported_for_type_checkers_only_is_explained(project: Make) -> None:
    root = project(
        orders="""
from __future__ import annotations
from typing import TYPE_CHECKING
from runner import consume
if TYPE_CHECKING:
    from shop import Order

@consume("orders")
async def charge(order: Order): ...
"""
    )
    with pytest.raises(BindingError, match=r"orders\.py:8: parameter 'order': name 'Order'") as caught:
        discovery.load(root)
    assert "TYPE_CHECKING" in caught.value.hint


def test_two_functions_of_one_name_are_refused(project: Make) -> None:
    root = project(a=bound("charge"), b=bound("charge"))
    with pytest.raises(BindingError, match=r"b\.py:4: the function 'charge' is there already, at .*a\.py:4"):
        discovery.load(root)


def test_a_redefined_function_is_refused_too(project: Make) -> None:
    root = project(a=bound("charge", "a") + bound("charge", "b"))
    with pytest.raises(BindingError, match="'charge' is there already"):
        discovery.load(root)


def test_two_functions_of_one_durable_are_refused(project: Make) -> None:
    taken = bound("other").replace('"orders.created"', '"orders.created", durable="shop-charge"')
    root = project(a=bound("charge"), b=taken)
    with pytest.raises(BindingError, match="the durable 'shop-charge' is there already"):
        discovery.load(root)


def test_a_binding_below_another_decorator_is_refused(project: Make) -> None:
    root = project(
        a="""
import functools
from runner import consume

def traced(function):
    @functools.wraps(function)
    async def wrapper(*args): ...
    return wrapper

@traced
@consume("orders")
async def charge(order): ...
"""
    )
    with pytest.raises(BindingError, match="decorated again") as caught:
        discovery.load(root)
    assert "outermost" in caught.value.hint


LIFESPAN = """
from runner import lifespan
@lifespan
async def {}():
    yield "ready"
"""


def test_the_lifespan_is_found(project: Make) -> None:
    found = discovery.load(project(state=LIFESPAN.format("state"), other="from functions.state import state"))
    assert found.lifespan is not None
    assert found.lifespan.__name__ == "state"
    assert found.functions == ()


def test_a_second_lifespan_is_refused(project: Make) -> None:
    root = project(a=LIFESPAN.format("one"), b=LIFESPAN.format("two"))
    with pytest.raises(BindingError, match=r"b\.py:3: a project has one lifespan; .*a\.py:3"):
        discovery.load(root)


@pytest.mark.parametrize(
    ("source", "message", "hint"),
    [
        ("x = 1\ny = x / 0", "functions/orders.py:2: ZeroDivisionError: division by zero", ""),
        ("import nowhere_at_all", "functions/orders.py:1: ModuleNotFoundError", "is it installed?"),
        ("def broken(:", "functions/orders.py:1: SyntaxError: ", ""),
        ("import json\njson.loads('{')", "functions/orders.py:2: JSONDecodeError", ""),
        ("import sys\nsys.exit('no')", "functions/orders.py:2: SystemExit: no", ""),
        ("\0", "SyntaxError", ""),
    ],
)
def test_an_error_in_user_code_names_file_and_line(
    project: Make, source: str, message: str, hint: str
) -> None:
    with pytest.raises(UsageError) as caught:
        discovery.load(project(orders=source))
    assert message in str(caught.value)
    assert caught.value.hint == hint
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("source", "hint"),
    [
        ("import functions.helpers.pricng", "did you mean 'functions.helpers.pricing'?"),
        (
            "import functions.helpers.quite_another",
            "functions.helpers is a package of this project, and has no quite_another",
        ),
        ("import functons", "did you mean 'functions'?"),
        ("import email.mesage", "is it installed?"),
        ("from runner import consume\nconsume('a', retires=3)", "did you mean 'retry'?"),
        ("from runner import consume\nconsume('a', concurency=3)", "did you mean 'concurrency'?"),
        ("from runner import gather\ngather('a', expire=3)", "did you mean 'expires'?"),
        ("from runner import cron\ncron('@daily', timezon='UTC')", "did you mean 'timezone'?"),
        ("from runner import reply\nreply('a', timeot=3)", "did you mean 'timeout'?"),
        ("from runner import around\naround(scop='module')", "did you mean 'scope'?"),
        ("from runner import RetryPolicy\nRetryPolicy.fixed(3, atempts=3)", "did you mean 'attempts'?"),
        ("from runner import RetryPolicy\nRetryPolicy(atempts=3)", "did you mean 'attempts'?"),
        ("def mine(retry): ...\nmine(retires=3)", ""),
    ],
)
def test_a_misspelt_name_is_told_what_it_was_perhaps_meant_to_be(
    project: Make, source: str, hint: str
) -> None:
    root = project(orders=source, **{"helpers/__init__": "", "helpers/pricing": ""})
    with pytest.raises(UsageError, match=r"functions/orders\.py:") as caught:
        discovery.load(root)
    if "Did you mean" in str(caught.value):  # Python says it itself since 3.13
        assert not caught.value.hint
        assert hint.lower() in str(caught.value).lower()
    else:
        assert caught.value.hint == hint


def test_a_wrong_binding_names_file_and_line(project: Make) -> None:
    root = project(orders=bound("charge", "..x"))
    with pytest.raises(BindingError, match=r"functions/orders\.py:4: subject .* has an empty token"):
        discovery.load(root)


def test_loading_again_reads_the_files_again(project: Make) -> None:
    assert names(project(orders=bound("charge"))) == ["charge"]
    assert names(project(orders=bound("charge") + bound("refund"))) == ["charge", "refund"]


def test_a_folder_without_functions_is_told_how_to_begin(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no folder functions/") as caught:
        discovery.load(tmp_path, "shop")
    assert "runner new" in caught.value.hint


def test_a_folder_that_is_no_package_is_told_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "functions").mkdir()
    with pytest.raises(UsageError, match="is not a package") as caught:
        discovery.load(tmp_path, "shop")
    assert "__init__.py" in caught.value.hint


def test_a_project_needs_a_name(project: Make) -> None:
    root = project(settings="", orders=bound("charge"))
    with pytest.raises(SettingsError, match="no project name"):
        discovery.load(root)
    assert discovery.load(root, "given").name == "given"
