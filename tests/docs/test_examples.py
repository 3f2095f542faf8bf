"""Every Python block of the documentation runs."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest
from sybil.document import Document
from sybil.parsers.markdown import PythonCodeBlockParser

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


@pytest.mark.parametrize(
    "page", [page for page in PAGES if "```python" in page.read_text()], ids=lambda page: page.stem
)
def test_the_python_of_a_page_runs(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = Document.parse(str(page), PythonCodeBlockParser())
    module = ModuleType(
        f"page_{page.stem}"
    )  # annotations are looked up in the module a function says it is from
    monkeypatch.setitem(sys.modules, module.__name__, module)
    document.namespace = vars(module)
    examples = list(document.examples())
    assert examples
    for example in examples:
        example.evaluate()
