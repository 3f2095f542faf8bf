"""Checks the options of the decorators. Each function returns the value that the binding keeps, or raises Unbindable."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from typing import Any, Literal, TypeVar

from runner.core import quantity
from runner.core.gather import LEAST_SECONDS
from runner.core.retry import RetryPolicy
from runner.core.subject import Template
from runner.signature import Kind, Unbindable
from runner.values import did_you_mean

T = TypeVar("T")

SLOTS = 64
BATCHES = 4
JOINS = 8
JOINED_BYTES = 64 * 1024 * 1024
LONGEST_SECONDS = 365 * 86_400.0
LARGEST_BATCH = 10_000
LINGER_SECONDS = 0.2
MOST_THREADS = 32
MORE_THREADS = 4
"""Threads in addition to one for each core: most of them wait for something."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
_NATS_NAME = re.compile(r"[A-Za-z0-9_-]{1,200}")


def name(option: str, value: Any) -> str:
    """A function's name; `option` is empty when the name is that of the Python function."""
    if isinstance(value, str) and _NAME.fullmatch(value):
        return value
    raise Unbindable(
        f"{option}{value!r} is not a valid name; write an identifier of up to 100 ASCII letters, digits and underscores",
        hint="" if option else "give the function a name with name=",
    )


def label(given: Any, function: Callable[..., Any]) -> str:
    """The function's name in the code: the one in `name=`, else that of the Python function."""
    return name("name=", given) if given is not None else name("", function.__name__)


def template(what: str, text: Any) -> Template:
    """A subject, parsed."""
    _require(isinstance(text, str), f"{what} is a string, not {text!r}")
    return Template.parse(text)


def output(text: Any, source: Template) -> Template:
    """The subject to which results are published; its tokens must be tokens of the function's subject."""
    found = template("output=", text)
    unknown = [token for token in found.names if token not in source.names]
    if unknown:
        raise Unbindable(
            f"output={text!r}: {{{unknown[0]}}} is not a token of the subject {source.text!r}",
            hint="publish to other subjects with ctx.publish",
        )
    _require(found.renderable, f"output={text!r}: a bare wildcard cannot be filled in; name the token")
    return found


def require_output(text: Any, kind: Kind) -> None:
    """Refuse a generator whose items would go nowhere."""
    _require(
        text is not None or not kind.endswith("generator"),
        "a generator needs output=, where its items are published",
    )


def policy(value: Any) -> RetryPolicy:
    """A retry policy."""
    if isinstance(value, RetryPolicy):
        return value
    raise Unbindable(
        f"retry= is a RetryPolicy, not {value!r}", hint="for example retry=RetryPolicy(attempts=3)"
    )


def count(option: str, value: Any) -> int:
    """A whole number of 1 or more."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    raise Unbindable(f"{option}= is a whole number of 1 or more, not {value!r}")


def batch(value: Any) -> int:
    """Most messages in a batch; 0 without `batch=`."""
    if value is None:
        return 0
    _require(count("batch", value) <= LARGEST_BATCH, f"batch= is at most {LARGEST_BATCH:,}, not {value:,}")
    return int(value)


def batch_by(value: Any, most: int, keys: tuple[str, ...]) -> Literal["key", "shard"]:
    """Whether an ordered batch has messages of one key, or of all keys of a shard."""
    choice("batch_by", value, ("key", "shard"))
    if value == "shard" and not (most and keys):
        raise Unbindable(
            'batch_by="shard" says which messages are in an ordered batch, and there is none',
            hint=f"give {' and '.join(name for name, given in (('batch=', most), ('ordered_by=', keys)) if not given)}",
        )
    return "shard" if value == "shard" else "key"


def linger(value: Any, batched: Any) -> float:
    """Seconds that a batch waits for more messages."""
    if value is None:
        return LINGER_SECONDS
    if batched is None:
        raise Unbindable(
            "linger= is how long a batch waits for more messages: it needs batch=",
            hint="give batch= too, for example batch=100, or leave linger= away",
        )
    if value == 0 and not isinstance(value, bool):
        return 0.0
    return seconds("linger", value)


def concurrency(value: Any, *, threaded: bool, batched: bool = False, in_process: bool = False) -> int:
    """Messages in work at once. By default fewer for threads, which share Python's lock, and for processes, which share the cores."""
    if value is None and in_process:
        return max(1, (os.cpu_count() or 1) - 1)  # one core is left for the event loop
    if value is None and batched:
        return BATCHES
    if value is None:
        return min(MOST_THREADS, (os.cpu_count() or 1) + MORE_THREADS) if threaded else SLOTS
    return count("concurrency", value)


def seconds(option: str, value: Any) -> float:
    """A number of seconds over 0."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf:
        return float(value)
    raise Unbindable(
        f"{option}= is a number of seconds over 0, not {value!r}",
        hint=f"write seconds as a number: {option}={_seconds_of(value):g}" if isinstance(value, str) else "",
    )


def _seconds_of(text: str) -> float:
    """The seconds of a duration as `1h`; 3 for a text that is not a duration."""
    try:
        return quantity.seconds(text) or 3.0
    except ValueError:
        return 3.0


def expires(value: Any) -> float:
    """Seconds after which an event is joined without all parts."""
    text = isinstance(value, str)
    known = not text and isinstance(value, (int, float)) and not isinstance(value, bool)
    if known and LEAST_SECONDS <= value <= LONGEST_SECONDS:
        return float(value)
    raise Unbindable(
        f"expires= is a number of seconds from 1 to a year, not {value!r}",
        hint=f"write seconds as a number: expires={_seconds_of(value):g}"
        if text
        else "parts that have not come are waited for at least 1 s, and an hour unless expires= is given",
    )


def size(option: str, value: Any) -> int:
    """A number of bytes: itself, or a text as `64MiB`."""
    try:
        found = quantity.size(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else 0
    except ValueError:
        found = 0
    _require(found > 0, f"{option}= is a number of bytes, as 67_108_864 or '64MiB', not {value!r}")
    return found


def choice(option: str, value: T, among: tuple[T, ...]) -> T:
    """The value; it must be one of those in `among`."""
    if value not in among:
        raise Unbindable(
            f"{option}= is {' or '.join(map(repr, among))}, not {value!r}",
            hint=did_you_mean(value, [each for each in among if isinstance(each, str)])
            if isinstance(value, str)
            else "",
        )
    return value


def nats_name(option: str, value: Any) -> str | None:
    """The name of a stream or durable, or None."""
    if value is None or (isinstance(value, str) and _NATS_NAME.fullmatch(value)):
        return value
    raise Unbindable(f"{option}= may hold letters, digits, dashes and underscores only, not {value!r}")


def durable(given: Any, keys: tuple[str, ...]) -> str | None:
    """The name of the durable; refused for an ordered function, which has one durable for each shard."""
    if keys and given is not None:
        raise Unbindable("durable= names one consumer; a function with ordered_by= has one a shard")
    return nats_name("durable", given)


def ordered_by(value: Any, source: Template) -> tuple[str, ...]:
    """The tokens of the subject that make a message's key."""
    names = (value,) if isinstance(value, str) else value
    if not isinstance(names, tuple) or not names or not all(isinstance(each, str) for each in names):
        raise Unbindable(
            f"ordered_by= is a token of the subject or a tuple of tokens, not {value!r}",
            hint='write ordered_by="customer", or ordered_by=("customer", "account")',
        )
    if unknown := [each for each in names if each not in source.names]:
        raise Unbindable(
            f"ordered_by={value!r}: {{{unknown[0]}}} is not a token of the subject {source.text!r}",
            hint=f"its tokens are {', '.join(source.names)}" if source.names else "name its tokens: {token}",
        )
    _require(len({*names}) == len(names), f"ordered_by={value!r} names a token twice")
    return names


def on_exhausted(value: Any, keys: tuple[str, ...]) -> Literal["dead_letter", "park"]:
    """What becomes of a message after its last attempt."""
    choice("on_exhausted", value, ("dead_letter", "park"))
    if value == "park" and not keys:
        raise Unbindable(
            'on_exhausted="park" holds back the later messages of a key, and there is none',
            hint="say which tokens make the key: ordered_by=",
        )
    return "park" if value == "park" else "dead_letter"


def executor(value: Any, batched: Any) -> bool:
    """Whether the handler runs in child processes."""
    choice("executor", value, (None, "process"))
    _require(
        value is None or batched is None, 'executor="process" takes one message at a time: leave batch= away'
    )
    return value is not None


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise Unbindable(message)
