"""Finds where the running package was installed from, so that a new project's dependency on it can be resolved."""

from __future__ import annotations

import json
from importlib import metadata
from typing import Any

PACKAGE = "jetrunner"


def requirement(extra: str = "") -> str:
    """The package as a dependency: by name from an index, else with the folder or URL it was installed from."""
    name = f"{PACKAGE}[{extra}]" if extra else PACKAGE
    where = address(_direct_url())
    return f"{name} @ {where}" if where else name


def address(direct: dict[str, Any]) -> str:
    """The URL of a `direct_url.json`, as a dependency writes it; empty when there is none."""
    url = direct.get("url", "")
    if not isinstance(url, str) or not url:
        return ""
    if vcs := direct.get("vcs_info"):
        url = f"{vcs['vcs']}+{url}@{vcs['commit_id']}"
    folder = direct.get("subdirectory")
    return f"{url}#subdirectory={folder}" if folder else url


def _direct_url() -> dict[str, Any]:
    try:
        found = json.loads(metadata.distribution(PACKAGE).read_text("direct_url.json") or "{}")
    except (metadata.PackageNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
