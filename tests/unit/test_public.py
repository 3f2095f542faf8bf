"""What `import runner` gives is what `__all__` says."""

from __future__ import annotations

import types

import pytest

import runner


def test_all_is_sorted_and_there() -> None:
    assert runner.__all__ == sorted(runner.__all__)
    for name in runner.__all__:
        assert getattr(runner, name) is not None


def test_everything_that_is_imported_is_exported() -> None:
    hidden = {"TYPE_CHECKING", "Any", "annotations"}
    public = {
        name
        for name, value in vars(runner).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert public - hidden <= set(runner.__all__)


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'publish'"):
        runner.publish  # type: ignore[attr-defined]  # noqa: B018  # what is tested
