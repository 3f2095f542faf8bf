"""Reads the values of settings from text or TOML. A ValueError says what a value should be, and never repeats the value."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from runner.core import quantity
from runner.core.balancer import POLICIES, Policy
from runner.core.http import authsettings, declared, manifest
from runner.core.http.authsettings import AuthSettings
from runner.core.http.cors import Cors
from runner.core.http.proxies import Proxies
from runner.core.http.route import Route
from runner.core.near import nearest
from runner.core.objective import Objective
from runner.core.service import HEAVIEST
from runner.core.subject import Template, is_reserved, problem

_URL = re.compile(
    r"(?:(?:nats|tls|ws|wss)://)?(?:\S*@)?(?:\[[0-9A-Fa-f:.%]+\]|[^\s/@:\[\]]+)(?::\d{1,5})?(?:/\S*)?"
)
# From a scheme to the last @ before the next scheme: a password may hold any character.
_USERINFO = re.compile(r"(?:(?<=://)|\A)(?:(?!://).)*@", re.DOTALL)
_ADDRESS = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s:\[\]/]*):(?P<port>\d{1,5})")
SINGLE_DOTS = "write customer.card, with single dots; an array stands for each of its elements: items.card"
ROUTE = 'for example path = "/orders/{customer}" and publish = "orders.{customer}"'
CORS = 'for example cors = { origins = ["https://app.example.com"] }'
OBJECTIVE = 'for example { availability = 0.999, latency = "1s" }'
BALANCE = 'for example balance = {"flights.>" = "round_robin"}'
LEAST_MEMORY = 1 << 20
_YES = ("1", "true", "yes", "on")
_NO = ("0", "false", "no", "off")


class Misfit(ValueError):  # noqa: N818  a value, told in a sentence
    """A value that does not fit, and a hint how it should be written."""

    def __init__(self, problem: str, hint: str) -> None:
        super().__init__(problem)
        self.hint = hint


def redact(url: str) -> str:
    """One or several NATS URLs without user, password or token."""
    return _USERINFO.sub("***@", url)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint naming the closest known word; empty when none is close."""
    close = nearest(word, known)
    return f"did you mean {close!r}?" if close else ""


def text(value: Any, folder: Path) -> str:
    """Any text that is not empty."""
    if isinstance(value, str) and value:
        return value
    raise ValueError("a text is expected")


def url(value: Any, folder: Path) -> str:
    """NATS URLs; several with commas, or a TOML array of them."""
    joined = ",".join(map(str, value)) if isinstance(value, (list, tuple)) else text(value, folder)
    parts = [part.strip() for part in joined.split(",") if part.strip()]
    if not parts or not all(_URL.fullmatch(part) for part in parts):
        raise ValueError("a NATS URL is expected, as nats://127.0.0.1:4222; several with commas")
    return ",".join(part if "://" in part else f"nats://{part}" for part in parts)


def path(value: Any, folder: Path) -> str:
    """A path, made absolute: `~` is the home folder, and a relative path starts from `folder`."""
    if not isinstance(value, Path):
        value = text(value, folder)
    return str(folder / Path(value).expanduser())


def switch(value: Any, folder: Path) -> bool:
    """True or false."""
    word = value.lower() if isinstance(value, str) else value
    if word is True or word in _YES:
        return True
    if word is False or word in _NO:
        return False
    raise ValueError("true or false is expected")


def count(value: Any, folder: Path) -> int:
    """A whole number of 1 or more."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value):
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    raise ValueError("a whole number of 1 or more is expected")


def number(value: Any, folder: Path) -> int:
    """A whole number, 0 or more."""
    if isinstance(value, str) and value.isdigit():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError("a whole number is expected")
    return value


def networks(value: Any, folder: Path) -> tuple[str, ...]:
    """Addresses and networks: an array of texts, or a text with commas."""
    given = [each.strip() for each in value.split(",")] if isinstance(value, str) else value
    example = 'for example ["10.0.0.0/8", "fd00::/8"]'
    if not isinstance(given, (list, tuple)) or not all(isinstance(each, str) for each in given):
        raise Misfit("an array of addresses or networks is expected", example)
    try:
        Proxies(given)
    except ValueError as error:
        raise Misfit(str(error), example) from None
    return tuple(given)


def size(value: Any, folder: Path) -> int:
    """Bytes, or a size as `512KiB`; 1 or more."""
    try:
        found = quantity.size(value)
    except (TypeError, ValueError):
        found = 0
    if found < 1 or isinstance(value, bool) or not isinstance(value, (str, int)):
        raise Misfit("a size is expected", 'write a size, as "512KiB" or "4MiB", or a number of bytes')
    return found


def memory(value: Any, folder: Path) -> int:
    """Bytes, or a size as `64MiB`; 1 MiB or more."""
    try:
        found = quantity.size(value)
    except (TypeError, ValueError):
        found = 0
    if found < LEAST_MEMORY or not isinstance(value, (str, int)):
        raise Misfit(
            "a size of 1MiB or more is expected", 'write a size, as "64MiB" or "1GiB", or a number of bytes'
        )
    return found


def duration(value: Any, folder: Path) -> float:
    """Seconds, or a duration as `30s`."""
    if not isinstance(value, (str, int, float)):
        raise ValueError('a number of seconds is expected, or a duration as "30s"')
    return quantity.seconds(value)


def weight(value: Any, folder: Path) -> float:
    """A number over 0, up to 1,000."""
    try:
        found = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else 0.0
    except ValueError:
        found = 0.0
    if 0 < found <= HEAVIEST:
        return found
    raise ValueError("a number over 0 is expected, up to 1,000: 1 is the weight of every other instance")


def objective(value: Any, folder: Path) -> Objective:
    """The objective of the project's functions: a table, or a text as `availability=0.999,latency=1s`."""
    if isinstance(value, str):
        value = dict(part.strip().partition("=")[::2] for part in value.split(",") if part.strip())
    if not isinstance(value, dict) or not {*value} <= {"availability", "latency"}:
        raise Misfit("a table of availability and latency is expected", OBJECTIVE)
    share, soon = value.get("availability"), value.get("latency")
    try:
        availability = None if share is None else float(share)
    except (TypeError, ValueError):
        availability = 0.0
    if availability is not None and not 0 < availability < 1:
        raise Misfit("a share over 0 and under 1 is expected as availability", OBJECTIVE)
    return Objective(availability, None if soon is None else duration(soon, folder))


def beginnings(value: Any, folder: Path) -> tuple[str, ...]:
    """Beginnings of subjects: an array of texts as `acme.inbox.`, or a text with commas; each ends with a dot."""
    given = [each.strip() for each in value.split(",")] if isinstance(value, str) else value
    if not isinstance(given, (list, tuple)) or not all(isinstance(each, str) for each in given):
        raise Misfit("an array of texts is expected", 'for example ["acme.inbox."]')
    for each in given:
        if not each.endswith(".") or is_reserved(each) or problem(each[:-1]):
            raise Misfit(
                "what subjects of inboxes begin with is expected, with a dot at its end",
                'for example "acme.inbox."; subjects of the server and of Jetrunner are none',
            )
    return tuple(given)


def address(value: Any, folder: Path) -> str:
    """HOST:PORT; without a host, every interface."""
    found = _ADDRESS.fullmatch(text(value, folder))
    if found is None or int(found["port"]) > 65_535:
        raise ValueError("HOST:PORT is expected, as 127.0.0.1:8080")
    return f"{found['host'] or '0.0.0.0'}:{int(found['port'])}"  # noqa: S104  # as every server reads ":8080"


def trace_url(value: Any, folder: Path) -> str:
    """A URL with `{trace_id}` in it."""
    if "{trace_id}" in text(value, folder):
        return str(value)
    raise ValueError("a URL with {trace_id} in it is expected")


def page(value: Any, folder: Path) -> str:
    """A URL with http or https."""
    if urlsplit(text(value, folder)).scheme in ("http", "https"):
        return str(value)
    raise ValueError("a URL is expected, as http://localhost:16686")


def paths_into(value: Any, folder: Path) -> tuple[str, ...]:
    """Names of headers, and paths into bodies as `customer.card`; an array of them, or a text with commas."""
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise Misfit("an array of texts is expected", 'for example ["authorization", "customer.card"]')
    names = [name.strip() for name in names] if isinstance(value, str) else names
    for name in names:
        if not all(part and part.isprintable() and part == part.strip() for part in name.split(".")):
            raise Misfit("the name of a header is expected, or a path into bodies", SINGLE_DOTS)
        if any(sign in name for sign in "[]*$"):
            raise Misfit("a path is names joined by dots, and nothing else", SINGLE_DOTS)
    return tuple(names)


def policies(value: Any, folder: Path) -> dict[str, Policy]:
    """How instances are chosen, by pattern of subjects: a table, or a text as `orders.*=round_robin,flights.>=random`."""
    if isinstance(value, str):
        value = dict(part.strip().rpartition("=")[::2] for part in value.split(",") if part.strip())
    if not isinstance(value, dict):
        raise Misfit("a table of subjects is expected", BALANCE)
    found: dict[str, Policy] = {}
    for subject, policy in value.items():
        if policy not in POLICIES:
            raise Misfit(f"one of {', '.join(POLICIES)} is expected for each subject", BALANCE)
        try:
            found[Template.parse(subject).wildcard] = policy
        except ValueError as error:
            raise Misfit(f"{subject!r} is not a subject: {error}", BALANCE) from None
    return found


def routes(value: Any, folder: Path) -> tuple[Route, ...]:
    """Routes from paths to subjects: an array of tables."""
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise Misfit("tables are expected, [[tool.jetrunner.routes]]", ROUTE)
    try:
        return declared.read(value)
    except ValueError as error:
        raise Misfit(str(error), _key_meant(error, declared.KEYS)) from None


def auth(value: Any, folder: Path) -> dict[str, AuthSettings]:
    """Authentications by name: a table of tables. Relative paths in them start from `folder`."""
    if not isinstance(value, dict):
        raise Misfit("tables are expected, [tool.jetrunner.auth.<name>]", 'for example kind = "api_key"')
    try:
        return authsettings.read(value, lambda name: path(name, folder))
    except ValueError as error:
        raise Misfit(str(error), _key_meant(error, authsettings.KEYS)) from None


def cors(value: Any, folder: Path) -> Cors:
    """The origins whose pages may ask: a table."""
    try:
        return manifest.convert(value, Cors)
    except ValueError as error:
        raise Misfit(str(error), _key_meant(error, Cors.__struct_fields__) or CORS) from None


def paths(value: Any, folder: Path) -> tuple[str, ...]:
    """Paths: an array of them, or one."""
    given = [value] if isinstance(value, (str, Path)) else value
    if not isinstance(given, (list, tuple)):
        raise ValueError("a path is expected, or an array of them")
    return tuple(path(each, folder) for each in given)


def _key_meant(error: ValueError, known: Iterable[str]) -> str:
    _, unknown, key = str(error).partition("contains unknown field ")
    return did_you_mean(key, known) if unknown else ""


def one_of(*words: str) -> Callable[[Any, Path], str]:
    """One of a few words, in any case."""

    def check(value: Any, folder: Path) -> str:
        word = value.lower() if isinstance(value, str) else ""
        if word in words:
            return word
        raise ValueError(f"one of {', '.join(words)} is expected")

    return check
