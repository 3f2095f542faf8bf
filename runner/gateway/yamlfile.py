"""YAML as values and lines: a strict subset, for files that decide who may ask whom.

Rule 1: values are texts, numbers, booleans (only `true` and `false`), null, lists and tables with texts as keys. Other tags,
        duplicate keys and merge keys are errors.
Rule 2: a file has at most 1 MiB, 40 levels and 50,000 values, including repetitions by aliases.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from msgspec import Struct

from runner.errors import RouteFileError, UsageError

BYTES = 1024 * 1024
DEPTH = 40
VALUES = 50_000

_TAG = "tag:yaml.org,2002:"
_RESOLVED = (
    ("bool", re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z"), "tTfF"),
    ("int", re.compile(r"[-+]?[0-9]{1,18}\Z"), "-+0123456789"),
    ("float", re.compile(r"[-+]?(?:[0-9]{1,18}\.[0-9]{0,18}|\.[0-9]{1,18})(?:[eE][-+]?[0-9]{1,3})?\Z"), "-+.0123456789"),
    ("null", re.compile(r"(?:~|null|Null|NULL|)\Z"), ["~", "n", "N", ""]),
)  # fmt: skip
"""The type of a text without quotes, as in YAML's core schema: `no` and `12:30` are texts."""


class Document(Struct, frozen=True):
    """One document of a file."""

    value: Any
    node: Any

    def line(self, place: tuple[str | int, ...]) -> int:
        """The line of a place in the document, counted from 1; if there is no such place, the line of what encloses it."""
        node = self.node
        line = node.start_mark.line
        for step in place:
            found = _below(node, step)
            if found is None:
                break
            node, line = found
        return int(line) + 1


def documents(text: str, file: str) -> list[Document]:
    """Read the documents of a file without the empty ones. RouteFileError names file and line."""
    if len(text.encode()) > BYTES:
        raise RouteFileError(f"{file}: it is larger than 1 MiB")
    yaml, loader = _yaml()
    try:
        nodes = list(yaml.compose_all(text, loader))
        reading = _Reading(file)
        found = [Document(reading.value(node, 0), node) for node in nodes]
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{min(mark.line + 1, len(text.splitlines()))}" if mark else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be read"
        raise RouteFileError(f"{file}{line}: not YAML: {problem}") from None
    except RecursionError:
        raise RouteFileError(f"{file}: it is more than {DEPTH} levels deep") from None
    return [document for document in found if document.value is not None]


class _Reading:
    """Turns nodes into values, and counts them."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.count = 0

    def value(self, node: Any, depth: int) -> Any:
        self.count += 1
        if self.count > VALUES:
            raise self.wrong(node, f"it holds more than {VALUES:,} values, what aliases repeat included")
        if depth > DEPTH:
            raise self.wrong(node, f"it is more than {DEPTH} levels deep")
        kind = node.tag.removeprefix(_TAG)
        match node.id, kind:
            case "mapping", "map":
                return self.table(node, depth)
            case "sequence", "seq":
                return [self.value(each, depth + 1) for each in node.value]
            case "scalar", "str" | "bool" | "int" | "float" | "null":
                return self.scalar(node, kind)
            case _:
                raise self.wrong(node, f"the tag {node.tag} is not read here")

    def table(self, node: Any, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in node.value:
            if key.id != "scalar":
                raise self.wrong(key, "a key is a text")
            if key.value == "<<" and not key.style:  # in quotes it is a text
                raise self.wrong(key, "merge keys are not read here")
            if key.value in found:
                raise self.wrong(key, f"{key.value} stands twice")
            self.count += 1
            found[key.value] = self.value(value, depth + 1)
        return found

    def scalar(self, node: Any, kind: str) -> Any:
        text: str = node.value
        try:
            match kind:
                case "bool":
                    return {"true": True, "false": False}[text.lower()]
                case "int":
                    return int(text)
                case "float":
                    return float(text)
                case "null":
                    return None
                case _:
                    return text
        except (KeyError, ValueError):
            raise self.wrong(node, f"{text!r} is no {kind}") from None

    def wrong(self, node: Any, problem: str) -> RouteFileError:
        return RouteFileError(f"{self.file}:{node.start_mark.line + 1}: {problem}")


def _below(node: Any, step: str | int) -> tuple[Any, int] | None:
    """The node at a key or an index, and the line where it begins."""
    if isinstance(step, int):
        if node.id != "sequence" or step >= len(node.value):
            return None
        return node.value[step], node.value[step].start_mark.line
    if node.id != "mapping":
        return None
    return next(((value, key.start_mark.line) for key, value in node.value if key.value == step), None)


@cache
def _yaml() -> tuple[Any, Any]:
    """PyYAML, and a loader that knows only the tags of rule 1; imported only when such files are read."""
    try:
        import yaml  # noqa: PLC0415  # the package comes with an extra
    except ImportError:
        raise UsageError(
            "files of routes need the PyYAML package", hint="pip install 'jetrunner[http]'"
        ) from None
    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    loader: Any = type("Loader", (base,), {"yaml_implicit_resolvers": {}})
    for kind, pattern, first in _RESOLVED:
        loader.add_implicit_resolver(_TAG + kind, pattern, list(first))
    return yaml, loader
