"""The page of figures and its plots are made from the committed results, which have the shape that is read."""

from __future__ import annotations

import pytest

from benchmarks import page
from benchmarks.report import RESULTS, committed
from benchmarks.sections import NAMES


def test_the_page_of_figures_is_made_from_the_committed_results() -> None:
    assert page.PAGE.read_text() == page.page(committed()), "run `just bench-report`"


def test_the_plots_are_made_from_the_committed_results() -> None:
    written = {file.name: file.read_text() for file in page.PLOTS.iterdir()}
    assert written == page.plots(committed()), "run `just bench-report`"


@pytest.mark.parametrize("name", NAMES)
def test_every_section_has_been_measured_in_full(name: str) -> None:
    report = committed()[name]
    assert (RESULTS / f"{name}.json").exists()
    assert report.results or report.latency
    assert report.messages >= 200_000
    assert report.rounds >= 3
    assert report.machine.cpu
    assert report.machine.load >= 0
