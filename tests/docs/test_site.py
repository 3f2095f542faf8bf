"""The list of pages is complete, `llms.txt` is made from it, and the site is built from it without a link that leads nowhere."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from docs import _pages, _site

ROOT = Path(__file__).parents[2]
LISTED = [page for pages in _pages.SECTIONS.values() for page in pages]


def test_every_page_is_listed_once() -> None:
    there = {"README.md", "CONTRIBUTING.md", "CHANGELOG.md"}
    there |= {str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md")}
    assert sorted(page.file for page in LISTED) == sorted(there)


def test_llms_txt_is_made_from_the_list() -> None:
    assert _pages.LLMS.read_text() == _pages.llms(), "run `just docs`"


@pytest.mark.parametrize(
    ("file", "link", "moved"),
    [
        ("README.md", "docs/tutorial.md", "tutorial.md"),
        ("README.md", "LICENSE", "files/LICENSE.md"),
        ("docs/tutorial.md", "../README.md", "index.md"),
        ("docs/tutorial.md", "howto/README.md", "howto/index.md"),
        ("docs/tutorial.md", "../functions/", "files/functions/index.md"),
        ("docs/howto/poison.md", "../guarantees.md", "../guarantees.md"),
        (
            "docs/decisions/0009-real-servers-in-tests.md",
            "../../tests/conftest.py",
            "../files/tests/conftest.py.md",
        ),
        ("docs/performance.md", "performance/body.svg", "performance/body.svg"),
        ("docs/tutorial.md", "https://example.org/x", "https://example.org/x"),
    ],
)
def test_a_link_leads_to_the_same_thing_in_the_site(file: str, link: str, moved: str, tmp_path: Path) -> None:
    moving = _site.Copy(tmp_path)
    assert moving.moved(file, f"[a]({link}) `[a]({link})`") == f"[a]({moved}) `[a]({link})`"


@pytest.mark.skipif(
    find_spec("zensical") is None,
    reason="no zensical here: run `uv sync --group docs`, or the site is not tested",
)
def test_the_site_is_built_and_no_link_of_it_leads_nowhere(tmp_path: Path) -> None:
    assert _site.build(tmp_path) == 0
    site = tmp_path / "site"
    for page in LISTED:
        shown = site / Path(_site.place(page.file)).with_suffix("")
        shown = shown.parent if shown.name == "index" else shown
        assert "<h1" in (shown / "index.html").read_text(), page.file
    assert all(
        (site / link).is_file() for link in re.findall(r"\]\(([^)]+)\)", (site / "llms.txt").read_text())
    )
