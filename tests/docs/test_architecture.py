"""The architecture page says what is there: its map, the files and functions it names, and the picture of a shard's life."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.core.shardlife import TABLE, ShardState

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
MAP = PAGE.partition("```\nrunner/\n")[2].partition("\nfunctions/ ")[0]
ROW = re.compile(r"^\| .+ \| `([\w/]+\.py)` \| (`[\w.]+`(?:, `[\w.]+`)*) \|$", re.MULTILINE)
FILE = re.compile(r"`((?:[a-z_]+/)*[a-z_]+\.py)`")
ARROW = re.compile(r"^ *([\w\[\]*]+) --> ([\w\[\]*]+)(?:: ([\w ]+?)(?: / ([\w, ]+))?)?$")


def test_the_map_names_every_folder_and_file_that_ls_shows() -> None:
    listed = set(re.findall(r"(?<![\w.])([a-z_]+(?:/|\.py))(?= |\n)", MAP))
    there = {
        f"{entry.name}/" if entry.is_dir() else entry.name
        for entry in (ROOT / "runner").iterdir()
        if not entry.name.startswith("__") and entry.name != "py.typed"
    }
    assert listed == there


def test_every_file_that_the_page_names_exists() -> None:
    assert [name for name in FILE.findall(PAGE) if not (ROOT / "runner" / name).is_file()] == []


def names(file: Path) -> Iterator[str]:
    """Of functions and classes, and of what stands in classes as `Class.name`."""
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        if isinstance(node, ast.ClassDef):
            for inner in node.body:
                if isinstance(inner, (ast.FunctionDef, ast.AsyncFunctionDef)):
                    yield f"{node.name}.{inner.name}"


@pytest.mark.parametrize(("file", "told"), ROW.findall(PAGE))
def test_what_a_message_passes_is_defined_where_the_page_says(file: str, told: str) -> None:
    assert set(re.findall(r"`([\w.]+)`", told)) - set(names(ROOT / "runner" / file)) == set()


def drawn(lines: list[str]) -> dict[tuple[str, str], tuple[str, tuple[str, ...]]]:
    """(state, event) → (state, actions), with an arrow that leaves the box drawn once for each state inside."""
    inside: set[str] = set()
    box, arrows = "", []
    for line in lines:
        if line.strip().startswith("state "):
            box = line.split()[1]
        elif found := ARROW.match(line):
            arrows.append(found.groups())
            if box and line.startswith("        "):
                inside |= {found[1], found[2]} - {"[*]"}
    table = {}
    for start, end, event, actions in arrows:
        if event is None:
            continue
        for state in inside if start == box else {start}:
            assert (state, event) not in table, "drawn twice"
            table[state, event] = end, tuple((actions or "").split(", ")) if actions else ()
    return table


def test_the_picture_of_a_shards_life_is_the_table() -> None:
    picture = PAGE.partition("```mermaid\nstateDiagram-v2\n")[2].partition("```")[0]

    def word(member: object) -> str:
        return str(getattr(member, "name", "")).lower().replace("_", " ")

    assert drawn(picture.splitlines()) == {
        (word(state), word(event)): (word(step.state), tuple(word(action) for action in step.actions))
        for state, row in TABLE.items()
        for event, step in row.items()
    }


def test_every_state_of_a_shard_is_explained() -> None:
    assert [state.name for state in ShardState if f"| `{state.name.lower()}` |" not in PAGE] == []
