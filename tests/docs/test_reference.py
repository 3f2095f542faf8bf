"""The reference knows everything that there is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

from msgspec import structs

import runner
from runner.config import Settings
from runner.core.retry import RetryPolicy
from runner.core.story import STATES, State
from runner.jetstream import ownstreams
from tests.support import metrics

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


def test_every_setting_has_its_place() -> None:
    page = (REFERENCE / "settings.md").read_text()
    assert [field.name for field in structs.fields(Settings) if f"`{field.name}`" not in page] == []


def test_every_exported_name_is_explained() -> None:
    pages = "\n".join(page.read_text() for page in REFERENCE.parent.rglob("*.md"))
    assert [name for name in runner.__all__ if name not in pages] == []


def test_every_metric_is_explained_and_nothing_else() -> None:
    page = (REFERENCE / "metrics.md").read_text()
    told = dict(re.findall(r"^\| `(jetrunner_\w+)` \| (\w+) \|", page, re.MULTILINE))
    assert told == metrics.names()


def test_every_field_of_a_retry_policy_is_explained() -> None:
    page = (REFERENCE / "handlers.md").read_text()
    own = {"spread", "waits", "scale"}  # what `random`, `sequence` and `scaled` keep for themselves
    assert [
        field.name
        for field in structs.fields(RetryPolicy)
        if field.name not in own and f"`{field.name}`" not in page
    ] == []


def test_every_subject_of_our_own_streams_is_in_the_reference() -> None:
    page = (REFERENCE / "streams.md").read_text()
    for name, config in ownstreams.STREAMS.items():
        assert f"| `{name}` |" in page
        for subject in config["subjects"]:
            assert f"`{subject.removesuffix('>')}" in page, subject


def test_every_state_of_a_message_has_its_meaning_and_its_place_on_the_page() -> None:
    assert tuple(STATES) == get_args(State)
    page = (REFERENCE.parent / "howto" / "message.md").read_text()
    table = page[page.index("| state | meaning |") :].partition("\n\n")[0]
    told = [name for line in table.splitlines() for name in re.findall(r"`(\w+)`", line.split("|")[1])]
    assert sorted(told) == sorted(STATES)
