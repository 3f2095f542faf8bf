"""Hypothesis for pure functions: no deadline (machines are shared), enough examples for a second in all."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("unit", deadline=None, max_examples=50)
settings.load_profile("unit")
