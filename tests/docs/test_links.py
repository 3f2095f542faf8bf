"""Links between pages lead somewhere, to the heading that they name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "functions").rglob("*.md")])
FENCE = re.compile(r"^(`{3,})[^\n]*\n.*?^\1$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#+ +(.*)$", re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_files_lead_to_a_file(page: Path) -> None:
    targets = [one or other for one, other in LINK.findall(page.read_text())]
    local = [
        target.partition("#")[0] for target in targets if "://" not in target and not target.startswith("#")
    ]
    assert [target for target in local if not (page.parent / target).exists()] == []


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as GitHub makes them, and the site, too."""
    found: set[str] = set()
    for heading in HEADING.findall(FENCE.sub("", page.read_text())):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        anchor = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
        assert anchor not in found, f"{page.name} has two headings {heading!r}: a link finds the first alone"
        found.add(anchor)
    return found


LINKED = [page for page in PAGES if page.name != "CHANGELOG.md"]


@pytest.mark.parametrize("page", LINKED, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_with_an_anchor_lead_to_a_heading(page: Path) -> None:
    targets = [one or other for one, other in LINK.findall(FENCE.sub("", page.read_text()))]
    anchored = [target.partition("#") for target in targets if "#" in target and "://" not in target]
    headings = {name: anchors((page.parent / name) if name else page) for name, _, _ in anchored}
    assert [f"{name}#{anchor}" for name, _, anchor in anchored if anchor not in headings[name]] == []


def test_every_page_is_reached_from_another() -> None:
    linked = {
        (page.parent / (one or other).partition("#")[0]).resolve()
        for page in PAGES
        for one, other in LINK.findall(page.read_text())
    }
    assert [page for page in (ROOT / "docs").rglob("*.md") if page.resolve() not in linked] == []
