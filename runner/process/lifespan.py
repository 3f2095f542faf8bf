"""The project's lifespan around the running functions."""

from __future__ import annotations

import logging
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio

from runner import ownlog
from runner.core import raised
from runner.discovery import Project
from runner.errors import JetrunnerError, UsageError

log = logging.getLogger("jetrunner")


@asynccontextmanager
async def alive(project: Project) -> AsyncIterator[Any]:
    """Run the project's lifespan around the block; its yielded value is `ctx.state`."""
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
        raise UsageError(f"the lifespan failed: {raised.line(error)}{_place(error, project.root)}") from error
    finally:
        ownlog.enable()
    try:
        yield state
    finally:
        with anyio.CancelScope(shield=True):
            try:
                await anext(generator, None)
            except Exception:
                log.exception("the lifespan has failed after its yield")
            await generator.aclose()


def _place(error: BaseException, root: Path) -> str:
    """`, at FILE:LINE`, the innermost line of the project's own code in the traceback; empty without one."""
    own = [
        f"{file.relative_to(root)}:{frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)
        if (file := Path(frame.filename)).is_relative_to(root) and "site-packages" not in file.parts
    ]
    return f", at {own[-1]}" if own else ""
