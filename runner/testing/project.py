"""The project that a test runs: made of the functions that the test gives, or the one on the disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from msgspec import structs

from runner import discovery
from runner.discovery import Project
from runner.errors import JetrunnerError
from runner.hooks import hook_of
from runner.lifespans import is_lifespan
from runner.testing.around import surrounded
from runner.testing.delivery import bound

NAME = "test"


def project_of(
    root: Path, functions: Sequence[Callable[..., Any]], around: Sequence[Callable[..., Any]]
) -> Project:
    """A project of these functions, lifespan and hooks, with the hooks in `around`; without functions, the project in `root`."""
    if not functions:
        project = discovery.load(root, fresh=False)
        more = [*(each.function for each in project.hooks), *around]
        return structs.replace(project, functions=surrounded(project.functions, more))
    lifespans = [each for each in functions if is_lifespan(each)]
    if len(lifespans) > 1:
        raise JetrunnerError("a project has one lifespan, and these are several")
    hooks = [each for each in functions if hook_of(each) is not None]
    found = [bound(each) for each in functions if each not in lifespans and each not in hooks]
    return Project(root, NAME, surrounded(found, [*hooks, *around]), lifespans[0] if lifespans else None)
