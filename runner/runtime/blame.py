"""The error of a failed attempt: its traceback, and the line of the project's code that raised it."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path

from runner.core.settlement import Failed, Outcome
from runner.core.signals import Reject, Retry

_LIBRARIES = tuple({f"{path}/" for name, path in sysconfig.get_paths().items() if "lib" in name})
_INSTALLED = ("/site-packages/", "/dist-packages/")
_CALLING = {
    str(Path(__file__).parents[1] / file)
    for file in (
        "arguments.py",
        "pipeline/around.py",
        "pipeline/awaited.py",
        "pipeline/call.py",
        "pipeline/local.py",
    )
}
"""Our own files whose frames are left out of a traceback, because they only pass a call from a hook to the handler."""


class RaisedElsewhere(Exception):  # noqa: N818  # no error of its own: the cause of one that was raised in another process
    """The cause of an error raised in another process: the text of its traceback, and its place in the project's code."""

    def __init__(self, trace: str, place: str) -> None:
        super().__init__(trace)
        self.trace = trace
        self.place = place


def trace_of(error: BaseException | None) -> str:
    """The traceback of a handler's exception, without our own frames; empty if no frame is the user's."""
    if error is not None and isinstance(error.__cause__, RaisedElsewhere):
        return error.__cause__.trace
    frames = error.__traceback__ if error is not None else None
    while frames is not None and frames.tb_frame.f_globals.get("__name__", "").startswith("runner."):
        frames = frames.tb_next
    if error is None or frames is None:
        return ""
    told = traceback.TracebackException(type(error), error, frames)
    told.stack = traceback.StackSummary.from_list(
        [each for each in told.stack if each.filename not in _CALLING]
    )
    return "".join(told.format())


def where(outcome: Outcome, root: Path) -> str:
    """The place of an error, as `functions/shop.py:10 in charge`: the last frame outside of libraries; empty if there is none.

    `Retry` and `Reject` have no place, because the handler raised them on purpose.
    """
    error = outcome.error if isinstance(outcome, Failed) else None
    if error is not None and isinstance(error.__cause__, RaisedElsewhere):
        return error.__cause__.place
    if error is None or isinstance(error, (Retry, Reject)):
        return ""
    found, frames = "", error.__traceback__
    while frames is not None:
        code, module = frames.tb_frame.f_code, str(frames.tb_frame.f_globals.get("__name__", ""))
        if not module.startswith("runner.") and _is_own(code.co_filename):
            found = f"{code.co_filename.removeprefix(f'{root}/')}:{frames.tb_lineno} in {code.co_name}"
        frames = frames.tb_next
    return found


def _is_own(file: str) -> bool:
    library = file.startswith(_LIBRARIES) or any(part in file for part in _INSTALLED)
    return not library and not file.startswith("<")
