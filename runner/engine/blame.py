"""Which line of the project's code an attempt failed in."""

from __future__ import annotations

import sysconfig
from pathlib import Path

from runner.core.outcome import Reject, Retry
from runner.core.settlement import Failed, Outcome

_LIBRARIES = tuple({f"{path}/" for name, path in sysconfig.get_paths().items() if "lib" in name})
_INSTALLED = ("/site-packages/", "/dist-packages/")


def where(outcome: Outcome, root: Path) -> str:
    """`functions/shop.py:10 in charge`: the last frame that is not of a library; empty without any.

    `Retry` and `Reject` say what they mean by themselves.
    """
    error = outcome.error if isinstance(outcome, Failed) else None
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
