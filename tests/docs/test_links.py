"""Links between pages lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "functions").rglob("*.md")])
LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_files_lead_to_a_file(page: Path) -> None:
    targets = [one or other for one, other in LINK.findall(page.read_text())]
    local = [
        target.partition("#")[0] for target in targets if "://" not in target and not target.startswith("#")
    ]
    assert [target for target in local if not (page.parent / target).exists()] == []


def test_every_page_is_reached_from_another() -> None:
    linked = {
        (page.parent / (one or other).partition("#")[0]).resolve()
        for page in PAGES
        for one, other in LINK.findall(page.read_text())
    }
    assert [page for page in (ROOT / "docs").rglob("*.md") if page.resolve() not in linked] == []
