"""What stands in the repository is for its readers: no machine of ours, nobody's package index."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# In pieces, so that this file passes its own test.
REGISTRIES = [
    ".".join(pieces)
    for pieces in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("yarnpkg", "com"),
        ("jsdelivr", "net"),
        ("unpkg", "com"),
        ("golang", "org"),
        ("crates", "io"),
        ("rubygems", "org"),
        ("conda", "anaconda", "org"),
    )
]


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    """Every file that git tracks, as text."""
    try:
        listing = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    files = [ROOT / name for name in listing.stdout.split("\0") if name]
    return {str(file.relative_to(ROOT)): file.read_text(errors="replace") for file in files if file.is_file()}


def test_no_file_names_a_package_registry(texts: dict[str, str]) -> None:
    found = [(file, host) for file, text in texts.items() for host in REGISTRIES if host in text]
    assert found == []


def test_no_file_names_a_home_directory(texts: dict[str, str]) -> None:
    homes = ["/" + "root/", "/" + "home/", "/" + "Users/"]
    assert [(file, home) for file, text in texts.items() for home in homes if home in text] == []


def test_no_lock_file_is_tracked(texts: dict[str, str]) -> None:
    assert "uv.lock" not in texts
