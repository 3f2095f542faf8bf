"""YAML: values and lines, and what a file that decides who may ask whom must not hold."""

from __future__ import annotations

from typing import Any

import pytest

from runner.errors import RouteFileError
from runner.gateway import yamlfile


def read(text: str) -> list[Any]:
    return [document.value for document in yamlfile.documents(text, "r.yaml")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: no", "no"), ("a: yes", "yes"), ("a: on", "on"), ("a: 12:30", "12:30"), ("a: 2026-01-01", "2026-01-01"), ("a: 0x10", "0x10"),
        ("a: 1_000", "1_000"), ("a: true", True), ("a: False", False), ("a: 80", 80), ("a: -1", -1), ("a: 1.5", 1.5), ("a: 1e3", "1e3"),
        ("a: '80'", "80"), ("a: ~", None), ("a:", None), ("a: null", None), ('a: ""', ""), ("a: [1, b]", [1, "b"]), ("a: {b: c}", {"b": "c"}),
        ("a: !!str 80", "80"), ("a: *.example.com".replace("*", "'*") + "'", "*.example.com"),
    ],
)  # fmt: skip
def test_texts_are_what_the_core_schema_says(text: str, expected: Any) -> None:
    assert read(text) == [{"a": expected}]


def test_empty_documents_are_left_away_and_json_is_yaml() -> None:
    assert read("---\n---\na: 1\n---\n# nothing\n---\n") == [{"a": 1}]
    assert read('{"a": {"b": [1, true, null]}}') == [{"a": {"b": [1, True, None]}}]
    assert read("") == []


def test_an_alias_stands_for_what_it_names() -> None:
    assert read("a: &x {b: 1}\nc: *x") == [{"a": {"b": 1}, "c": {"b": 1}}]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a: 1\na: 2", "r.yaml:2: a stands twice"),
        ("a: 1\n<<: {b: 1}", "r.yaml:2: merge keys"),
        ("? [a]\n: 1", "r.yaml:1: a key is a text"),
        ("a: !!python/object:os.system x", "r.yaml:1: the tag tag:yaml.org,2002:python/object:os.system"),
        ("a: !x 1", "r.yaml:1: the tag !x is not read"),
        ("a: !!binary aGk=", "r.yaml:1: the tag"),
        ("a: !!int x", "r.yaml:1: 'x' is no int"),
        ("a: [1", "r.yaml:1: not YAML"),
        ("a: 1\n\tb: 2", "r.yaml:2: not YAML"),
        ("a: *x", "r.yaml:1: not YAML: found undefined alias"),
        ("a: \x00", "r.yaml: not YAML|r.yaml:1: not YAML"),
        ("a: &x [*x]", "r.yaml:1: it is more than 40 levels deep"),
        ("[" * 60 + "]" * 60, "r.yaml:1: it is more than 40 levels deep"),
        ("[" * 100_000, "r.yaml"),
        ("{a: " * 100_000, "r.yaml"),
        ("a: " + "x" * yamlfile.BYTES, "r.yaml: it is larger than 1 MiB"),
        ("- 1\n" * (yamlfile.VALUES + 1), "it holds more than 50,000 values"),
    ],
)  # fmt: skip
def test_what_is_no_such_file_is_told_with_its_line(text: str, why: str) -> None:
    with pytest.raises(RouteFileError, match=why):
        read(text)


def test_a_thousand_laughs_are_cut_short() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    with pytest.raises(RouteFileError, match="what aliases repeat included"):
        read("\n".join(lines))


def test_a_place_has_the_line_of_its_key_or_of_what_stands_around_it() -> None:
    text = "# first\nspec:\n  rules:\n    - host: a\n    - host: b\n      http:\n        paths: []\n"
    (document,) = yamlfile.documents(text, "r.yaml")
    asked: list[tuple[tuple[str | int, ...], int]] = [
        ((), 2), (("spec",), 2), (("spec", "rules"), 3), (("spec", "rules", 1), 5), (("spec", "rules", 1, "http", "paths"), 7),
        (("spec", "rules", 1, "nothing"), 5), (("spec", "rules", 7), 3), (("spec", 0), 2), (("spec", "rules", "x"), 3),
    ]  # fmt: skip
    assert [document.line(place) for place, _ in asked] == [line for _, line in asked]
