"""Every error a user can meet, drawn as a tree.

JetrunnerError
├── UsageError            exit 2: the command, a setting or user code is wrong
│   ├── SettingsError     a setting from the command line, the environment or pyproject.toml
│   ├── BindingError      a decorated function that cannot be bound; names file and line
│   ├── StreamFileError   a file in streams/ that does not declare a stream
│   └── RouteFileError    a file of routes that cannot be read, or holds what is not a route
├── Unreachable           exit 3: NATS cannot be reached, or refuses us
└── ServerError           exit 1: NATS answered with an error
    ├── NoStream          no stream captures the subject
    │   └── NoResponders  the subject has no subscriber: no service, no stream with a leader
    ├── Elsewhere         another stream captures the subject than the one that was meant
    ├── StreamFull        the stream takes no more (its own limits, or the account's)
    ├── PermissionDenied  the credentials do not allow it
    ├── ShardLost         another instance owns the shard: what this run made is nobody's
    ├── ServiceError      whoever answers a request has answered with an error
    ├── TooLarge          headers and body are more than the server, or the stream, takes
    ├── Unconfirmed       no answer came in time; it may or may not have happened
    └── Incomplete        the server could not list all that there is: no answer to go by
"""

from __future__ import annotations

from collections.abc import Sequence


class JetrunnerError(Exception):
    """Something went wrong; `hint` tells the next step."""

    exit_code = 1
    parts: tuple[JetrunnerError, ...] = ()
    """The errors that this one is made of; empty for one alone."""

    def __init__(self, message: str = "", *, hint: str = "") -> None:
        super().__init__(message or (self.__doc__ or "").split("\n", maxsplit=1)[0])
        self.hint = hint


class UsageError(JetrunnerError):
    """The command, a setting or user code is wrong."""

    exit_code = 2


class SettingsError(UsageError):
    """A setting is wrong."""


def several(errors: Sequence[JetrunnerError]) -> JetrunnerError:
    """Errors as one: a line each, and every hint once. Its class is theirs where that is one UsageError."""
    each = {str(error): error for error in errors}  # one module's error may be met by each that imports it
    if len(each) == 1:
        return errors[0]
    hints = "\n".join(dict.fromkeys(error.hint for error in errors if error.hint))
    kinds = {type(error) for error in errors}
    kind = kinds.pop() if len(kinds) == 1 else UsageError
    found = (kind if issubclass(kind, UsageError) else UsageError)("\n".join(each), hint=hints)
    found.parts = tuple(each.values())
    return found


class BindingError(UsageError):
    """A decorated function cannot be bound."""

    def __init__(self, message: str, *, file: str = "", line: int = 0, hint: str = "") -> None:
        super().__init__(f"{file}:{line}: {message}" if file else message, hint=hint)
        self.file = file
        self.line = line


class StreamFileError(UsageError):
    """A stream file does not declare a stream."""


class RouteFileError(UsageError):
    """A file of routes holds what is not a route."""


class Unreachable(JetrunnerError):
    """NATS cannot be reached."""

    exit_code = 3


class Outdated(JetrunnerError):
    """nats-server is too old for what is asked of it."""


class ServerError(JetrunnerError):
    """NATS answered with an error; `code` is the server's `err_code`, 0 when it has none."""

    def __init__(self, message: str = "", *, code: int = 0, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.code = code


class NoStream(ServerError):
    """No stream captures the subject."""


class NoResponders(NoStream):
    """The subject has no subscriber: no service and no stream, or a stream without a leader now. No server has passed the message on."""


class ServiceError(ServerError):
    """A request was answered with an error; `code` is its number: 400 undecodable, 404, 408 late, 422 rejected, 429 overloaded, 500, 503."""


class Elsewhere(ServerError):
    """Another stream captures the subject than the one that was meant."""


class StreamFull(ServerError):
    """The stream takes no more messages."""


class NoConfirmation(ServerError):
    """The stream confirms nothing: whether it has stored a message is not to be known."""


class PermissionDenied(ServerError):
    """The credentials do not allow it."""


class TooLarge(ServerError):
    """Headers and body are more than the server, or the stream, takes in one message."""


class ShardLost(ServerError):
    """Another instance owns the shard: what this run made is nobody's."""


class Unconfirmed(ServerError):
    """No answer came in time: it may or may not have happened."""


class Incomplete(ServerError):
    """The server could not list all that there is: no answer to go by."""
