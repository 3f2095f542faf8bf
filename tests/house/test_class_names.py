"""A class name stands for one thing: who looks for it in `runner/` finds one class."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]

SHARED = {
    # What `async with … as app:` gives, outside of functions and in a test: users know both by this name.
    "App": ["runner/client.py", "runner/testing/app.py"],
}
"""The names that stand for more than one class, and where."""


def homes() -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Of each public name of a class, and of each other name that a module gives, the files that have it."""
    classes: dict[str, list[str]] = defaultdict(list)
    others: dict[str, list[str]] = defaultdict(list)
    for file in sorted((ROOT / "runner").rglob("*.py")):
        for node in ast.parse(file.read_text()).body:
            place = str(file.relative_to(ROOT))
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                classes[node.name].append(place)
            for target in node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]:
                if isinstance(target, ast.Name):
                    others[target.id].append(place)
    return classes, others


def test_a_class_name_stands_for_one_thing_but_for_those_that_are_named_here() -> None:
    classes, _ = homes()
    assert {name: files for name, files in classes.items() if len(files) > 1} == SHARED


def test_no_alias_of_a_type_has_the_name_of_a_class() -> None:
    classes, others = homes()
    assert {name: [*classes[name], *files] for name, files in others.items() if name in classes} == {}
