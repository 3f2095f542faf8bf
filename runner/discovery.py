"""Discovery: import a project's functions and find what is bound in them.

Rule 1: every module of the package `functions`, and of packages in it, is imported; a name with a leading `_` is left out.
Rule 2: a function belongs to the project when one of those modules bound it or holds it under some name.
Rule 3: a hook (`@around`) belongs to it by the same rule; with `scope="module"` it runs around functions of its own module alone.
Rule 4: names of functions and durables are unique; a project has at most one lifespan.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
import traceback
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from msgspec import Struct

from runner import bindings, config, hooks, misspelt, ownlog
from runner.bindings import Binding, binding_of, bound_in
from runner.core import identity, raised
from runner.errors import BindingError, JetrunnerError, SettingsError, UsageError, several
from runner.hooks import Hook
from runner.lifespans import is_lifespan

PACKAGE = "functions"


class Project(Struct, frozen=True):
    """A project's code, imported and checked."""

    root: Path
    name: str
    functions: tuple[Binding, ...]
    """The functions, in the order of their modules, then as they are written."""
    lifespan: Callable[[], AsyncGenerator[Any, None]] | None = None
    version: str = "0.0.0"
    """The version in the project's `pyproject.toml`."""
    hooks: tuple[Hook, ...] = ()
    """All hooks, the outermost first; each function's binding has those that run around it."""


def load(root: Path, name: str | None = None, *, fresh: bool = True) -> Project:
    """Import the project in a folder; `name` defaults to the one in its settings.

    With `fresh` its modules are read again even if they are imported already; functions and types are new objects then.

    UsageError names file and line of whatever is wrong in user code.
    """
    root = root.resolve()
    project = name or config.load_settings(root).name
    if not project:
        raise SettingsError(
            f"{root} has no project name", hint='put name = "…" under [tool.jetrunner] in pyproject.toml'
        )
    if not (root / PACKAGE).is_dir():
        raise UsageError(
            f"there is no folder {PACKAGE}/ in {root}", hint="runner new NAME makes a project that runs"
        )
    if not (root / PACKAGE / "__init__.py").is_file():
        raise UsageError(f"{PACKAGE}/ is not a package", hint=f"add an empty {PACKAGE}/__init__.py")
    if fresh:
        unload()
    # The root is first, so that no other package of this name is found before the project's.
    sys.path[:] = [str(root), *(entry for entry in sys.path if entry != str(root))]
    try:
        modules = _modules(root)
    finally:
        ownlog.enable()
    functions = _functions(modules)
    _require_unique(project, functions)
    _require_apart(functions)
    found = hooks.ordered(hook for module in modules for hook in hooks.hooks_in(vars(module)))
    surrounded = hooks.surrounded(functions, found)
    return Project(root, project, surrounded, _lifespan(modules), config.project_version(root), found)


def unload() -> None:
    """Forget the imported functions, so that the next `load` reads their files again."""
    for module in [name for name in sys.modules if name == PACKAGE or name.startswith(PACKAGE + ".")]:
        del sys.modules[module]
    importlib.invalidate_caches()


def _modules(root: Path) -> list[ModuleType]:
    """All modules of the project. One error tells what is wrong in each of them."""
    package = _imported(PACKAGE, root)
    found = Path(package.__file__ or "").resolve()
    if root not in found.parents:
        raise UsageError(f"the package {PACKAGE} was found in {found.parent}, not in {root}")
    found_modules = [package]
    wrong: list[JetrunnerError] = []
    for module in found_modules:
        for name in _public(module):
            try:
                found_modules.append(_imported(f"{module.__name__}.{name}", root))
            except JetrunnerError as error:
                wrong.append(error)
    if wrong:
        raise several(wrong)
    return found_modules


def _public(package: ModuleType) -> list[str]:
    paths = getattr(package, "__path__", None)
    if paths is None:
        return []
    return sorted(entry.name for entry in pkgutil.iter_modules(paths) if not entry.name.startswith("_"))


def _imported(name: str, root: Path) -> ModuleType:
    try:
        return importlib.import_module(name)
    except JetrunnerError:
        raise
    except (Exception, SystemExit) as error:
        raise UsageError(
            f"{_where(error, name, root)}: {raised.name(error)}: {_text(error)}",
            hint=misspelt.hint(error, root),
        ) from error


def _text(error: BaseException) -> str:
    return error.msg if isinstance(error, SyntaxError) else raised.text(error)


def _where(error: BaseException, name: str, root: Path) -> str:
    """File and line, relative to the root, of the last frame in the user's own code; without one, the module's name."""
    places = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError) and error.filename:
        places.append((error.filename, error.lineno))
    for filename, line in reversed(places):
        path = Path(filename)
        if root in path.parents and "site-packages" not in path.parts:
            return f"{path.relative_to(root)}:{line}"
    return name


def _functions(modules: list[ModuleType]) -> tuple[Binding, ...]:
    found: dict[int, Binding] = {}
    for module in modules:
        for function in (*bound_in(vars(module)), *vars(module).values()):
            if bindings.is_wrapped(function):
                raise BindingError(
                    f"{function.__name__} is bound, and then decorated again",
                    file=function.__code__.co_filename,
                    line=function.__code__.co_firstlineno,
                    hint="put the binding outermost, above the other decorators",
                )
            binding = binding_of(function)
            if binding is not None and id(binding.handler) not in found:
                found[id(binding.handler)] = binding
    return tuple(found.values())


def _require_unique(project: str, functions: tuple[Binding, ...]) -> None:
    taken: dict[str, Binding] = {}
    for binding in functions:
        durable = binding.durable or identity.durable(project, binding.function)
        names = dict.fromkeys((binding.function, binding.label))
        for what in (*(f"function {name!r}" for name in names), f"durable {durable!r}"):
            if (other := taken.setdefault(what, binding)) is not binding:
                raise BindingError(
                    f"the {what} is there already, at {other.file}:{other.line}",
                    file=binding.file,
                    line=binding.line,
                    hint="give one of them another name=" if what.startswith("function") else "",
                )


def _require_apart(functions: tuple[Binding, ...]) -> None:
    """Refuse two functions that would answer the same HTTP requests."""
    taken: dict[tuple[str, str, str], Binding] = {}
    for binding in functions:
        if binding.route is None:
            continue
        if (other := taken.setdefault(binding.route.shape, binding)) is not binding:
            raise BindingError(
                f"{binding.function} answers {binding.route.text}, as {other.function} does, at {other.file}:{other.line}",
                file=binding.file,
                line=binding.line,
                hint="give one of them another method, path or host=",
            )


def _lifespan(modules: list[ModuleType]) -> Callable[[], AsyncGenerator[Any, None]] | None:
    found: list[Any] = []
    for module in modules:
        found.extend(value for value in vars(module).values() if is_lifespan(value) and value not in found)
    if len(found) > 1:
        first, second = found[0].__code__, found[1].__code__
        raise BindingError(
            f"a project has one lifespan; there is one at {first.co_filename}:{first.co_firstlineno} already",
            file=second.co_filename,
            line=second.co_firstlineno,
        )
    return found[0] if found else None
