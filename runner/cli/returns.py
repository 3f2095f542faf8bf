"""Checks whether a handler returns something, and whether its function has an `output` for it, as far as the code says."""

from __future__ import annotations

import ast
import collections.abc
import inspect
import textwrap
import typing
from collections.abc import Iterator
from typing import Any, Literal, TypeAlias

from runner.bindings import Binding
from runner.core.subject import overlaps

Returns: TypeAlias = Literal["nothing", "a value", "unknown"]

_AWAITED = (collections.abc.Awaitable, collections.abc.Coroutine)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)


def warnings(binding: Binding) -> Iterator[str]:
    """Warnings of results that nobody can have meant: they go nowhere, come back to their function, or are missing."""
    function, output = binding.function, binding.output
    if output is not None and overlaps(output.wildcard, binding.subject.wildcard):
        yield (
            f"{function} reads what it publishes: its output {output.text} comes back to its subject "
            f"{binding.subject.text}, for ever unless it returns None at some time"
        )
    if binding.kind.endswith("generator") or binding.answers is not None:
        return
    if binding.route is not None and output is None:
        return
    match returns(binding.handler), output:
        case "a value", None:
            yield f"{function} returns a value, and has no output=: what it returns goes nowhere"
        case "nothing", template if template is not None:
            yield f"{function} has output={template.text!r}, and returns nothing: nothing is published there"


def returns(handler: Any) -> Returns:
    """What a handler returns, by its annotation; without one, by the return statements in its source."""
    function = inspect.unwrap(handler)
    if "return" in getattr(function, "__annotations__", {}):
        try:
            return _by_annotation(typing.get_type_hints(function)["return"])
        except Exception:  # noqa: BLE001  an annotation may raise anything
            return "unknown"
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return "unknown"
    found = next(
        (node for node in tree.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))), None
    )
    if found is None:
        return "unknown"
    values = [
        node.value for statement in found.body for node in _own(statement) if isinstance(node, ast.Return)
    ]
    real = [value for value in values if value is not None and not _is_none(value)]
    if not real:
        return "nothing"
    # Many a handler ends with `return await client.post(…)`, and does not mean to return that value.
    return "a value" if any(not isinstance(value, ast.Await) for value in real) else "unknown"


def _by_annotation(annotation: Any) -> Returns:
    if typing.get_origin(annotation) in _AWAITED:
        arguments = typing.get_args(annotation)
        annotation = arguments[-1] if arguments else Any
    if annotation in (None, type(None)):
        return "nothing"
    return "unknown" if annotation in (Any, object, typing.Never, typing.NoReturn) else "a value"


def _own(node: ast.AST) -> Iterator[ast.AST]:
    """The node and all nodes below it, without the insides of functions and classes."""
    yield node
    if isinstance(node, _FUNCTIONS):
        return
    for child in ast.iter_child_nodes(node):
        yield from _own(child)


def _is_none(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and value.value is None
