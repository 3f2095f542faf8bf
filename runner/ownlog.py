"""The runner's own loggers, which a project's logging configuration switches off without meaning to.

`logging.config.dictConfig` and `fileConfig` disable every logger there is that they do not name, unless told otherwise.
"""

from __future__ import annotations

import logging

OURS = ("jetrunner", "functions")
"""The roots of our loggers, and of those that functions get as `ctx.log`."""


def enable() -> None:
    """Let our loggers speak again; their levels and handlers stay as the project has set them."""
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if isinstance(logger, logging.Logger) and name.partition(".")[0] in OURS:
            logger.disabled = False
