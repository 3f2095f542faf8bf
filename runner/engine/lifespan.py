"""The project's lifespan around the running functions."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio

from runner import ownlog
from runner.core import raised
from runner.discovery import Project
from runner.errors import JetrunnerError, UsageError

log = logging.getLogger("jetrunner")


@asynccontextmanager
async def alive(project: Project) -> AsyncIterator[Any]:
    """The project's lifespan around the block; what it yields is `ctx.state`."""
    if project.lifespan is None:
        yield None
        return
    generator = project.lifespan()
    try:
        state = await anext(generator)
    except StopAsyncIteration:
        raise UsageError("the lifespan ended without a yield", hint="yield what ctx.state shall be") from None
    except JetrunnerError:
        raise
    except Exception as error:
        raise UsageError(f"the lifespan failed: {raised.line(error)}") from error
    finally:
        ownlog.enable()
    try:
        yield state
    finally:
        with anyio.CancelScope(shield=True):
            try:
                await anext(generator, None)
            except Exception:
                log.exception("the lifespan failed in its end")
            await generator.aclose()
