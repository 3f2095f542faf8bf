"""The runner's own loggers, which a project's logging configuration switches off without meaning to.

`logging.config.dictConfig` and `fileConfig` disable every logger there is that they do not name, unless told otherwise.
"""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any

OURS = ("jetrunner", "functions")
"""The roots of our loggers, and of those that functions get as `ctx.log`."""


def enable() -> None:
    """Let our loggers speak again; their levels and handlers stay as the project has set them."""
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if isinstance(logger, logging.Logger) and name.partition(".")[0] in OURS:
            logger.disabled = False


class FunctionLog(logging.LoggerAdapter[logging.Logger]):
    """The logger of a context, whose own fields join those of a call (the stock adapter drops the call's before Python 3.13)."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """A record with both."""
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs
