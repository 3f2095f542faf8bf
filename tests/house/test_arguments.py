"""A function has six arguments at most: what travels together is a frozen struct."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
MOST = 6
COMMAND = "command"
"""In the last place of a decorator's name: click gives a command each of its options as an argument."""

WIDER = {
    # What users call: options that are named where they are passed.
    "runner/bindings.py: consume": 17,
    "runner/gathers.py: gather": 8,
    "runner/routes.py: route": 8,
    "runner/schedules.py: cron": 7,
    "runner/testing/app.py: run": 7,
    "runner/testing/contexts.py: context": 17,
    "runner/testing/delivery.py: deliver": 10,
    # As OpenTelemetry has them.
    "runner/telemetry/services.py: should_sample": 7,
    "runner/telemetry/user_spans.py: start_span": 8,
    "runner/telemetry/user_spans.py: start_as_current_span": 9,
    # Called for every message or span: a struct would be one more object for each.
    "runner/context.py: __init__": 19,
    "runner/telemetry/functionspans.py: start": 11,
    "runner/telemetry/ownspan.py: __init__": 7,
    "runner/telemetry/source.py: start": 9,
    "runner/telemetry/source.py: _sdk": 9,
    # Called once for each function: parts of one object that stand in files of their own.
    "runner/jetstream/pull.py: __init__": 7,
    "runner/ordered/spill.py: __init__": 7,
    "runner/pipeline/poison.py: __init__": 7,
    "runner/pipeline/together.py: __init__": 7,
    "runner/telemetry/functionspans.py: __init__": 7,
}
"""Those that have more, and how many: none is added, and none grows."""


def widths() -> dict[str, int]:
    """Of every function with more than six arguments, the one of its first parameter, `self`, not counted."""
    found: dict[str, int] = {}
    for file in sorted((ROOT / "runner").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) or is_command(node):
                continue
            given = node.args
            names = [each.arg for each in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
            count = len(names) - (names[:1] in (["self"], ["cls"]))
            if count > MOST:
                place = f"{file.relative_to(ROOT)}: {node.name}"
                found[place] = max(found.get(place, 0), count)
    return found


def is_command(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(
        isinstance(each, ast.Call) and ast.unparse(each.func).rpartition(".")[2] == COMMAND
        for each in node.decorator_list
    )


def test_no_function_has_more_than_six_arguments_but_those_that_are_named_here() -> None:
    assert widths() == WIDER
