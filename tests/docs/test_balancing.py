"""The page on balancing is what the simulation says today."""

from __future__ import annotations

from docs import _balancing


def test_the_page_on_balancing_and_its_plots_are_what_the_simulation_says() -> None:
    text, plots = _balancing.made()
    assert _balancing.PAGE.read_text() == text, "run `just docs`"
    assert {file.name: file.read_text() for file in _balancing.PLOTS.iterdir()} == plots, "run `just docs`"
