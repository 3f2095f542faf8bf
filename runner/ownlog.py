"""Enables loggers again that a project's logging configuration has disabled without meaning to.

`logging.config.dictConfig` and `fileConfig` disable every existing logger that they do not name, unless they are told not to.
"""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any

OURS = ("jetrunner", "functions")
"""The roots of the runner's own loggers (with `ctx.log`), and of those of the modules in `functions/`."""


def enable() -> None:
    """Enable all loggers under OURS again; their levels and handlers stay as the project has set them."""
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if isinstance(logger, logging.Logger) and name.partition(".")[0] in OURS:
            logger.disabled = False


class FunctionLog(logging.LoggerAdapter[logging.Logger]):
    """The logger of a context: a record has its fields and those of the call. Before Python 3.13 the stock adapter drops the latter."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Give a record the fields of the context and of the call."""
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs
