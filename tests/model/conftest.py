"""Hypothesis for state machines: short enough to run with the unit tests."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("model", settings.get_profile("shared"), max_examples=30, stateful_step_count=40)
settings.load_profile("model")
