"""The end of a process by errors: chooses the one error to tell."""

from __future__ import annotations

from runner.errors import JetrunnerError, Unreachable
from runner.jetstream.connection import Connection


def lost(connection: Connection, error: BaseException) -> Unreachable | None:
    """`Unreachable`, if an error came because the connection was lost and has not come back; None for every other error."""
    if connection.is_connected or not isinstance(error, JetrunnerError) or error.exit_code != 1:
        return None
    return Unreachable(
        f"the connection to NATS was lost, and has not come back: {error}",
        hint="look whether the server runs and can be reached, then start again",
    )


def single(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error to tell among those of a task group: one of the runner's own, if there is one."""
    flat: list[BaseException] = []

    def walk(error: BaseException) -> None:
        if isinstance(error, BaseExceptionGroup):
            for inner in error.exceptions:
                walk(inner)
        else:
            flat.append(error)

    walk(group)
    flat.sort(key=lambda error: not isinstance(error, JetrunnerError))
    return flat[0]
