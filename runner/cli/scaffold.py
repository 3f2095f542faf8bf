"""The files of a new project."""

from __future__ import annotations

from string import Template

from runner.cli.requirement import requirement

PYPROJECT = """\
[project]
name = "$name"
version = "0.1.0"
requires-python = ">=3.11"
dependencies = ["$package"]

[dependency-groups]
dev = ["$package_dev", "pytest"]

[tool.jetrunner]
# Names durables and dead letters on the server: it cannot change later without starting over.
name = "$name"

[tool.pytest.ini_options]
pythonpath = ["."]
"""

GREET = '''\
"""Greet everyone who signs up."""

from __future__ import annotations

from msgspec import Struct

from runner import Context, Reject, RetryPolicy, consume


class Signup(Struct):
    name: str


class Greeting(Struct):
    text: str


@consume("signups.{user}", output="greetings.{user}", retry=RetryPolicy(attempts=5, delay=1.0))
async def greet(signup: Signup, user: str, ctx: Context) -> Greeting:
    """What is returned is stored under `output` before the sign-up is acknowledged; an exception means: try again."""
    if not signup.name.strip():
        raise Reject("nobody to greet")  # a dead letter, no retry
    ctx.log.info("hello, %s", user)
    return Greeting(f"Hello, {signup.name}!")
'''

TEST = '''\
"""A decorated function is still the function that was written: a test calls it. The last one runs it on a real server."""

from __future__ import annotations

import asyncio

import pytest

from functions.greet import Greeting, Signup, greet
from runner import Reject, testing


def test_a_signup_is_greeted() -> None:
    assert asyncio.run(greet(Signup("Ada"), "ada", testing.context())) == Greeting("Hello, Ada!")


def test_nobody_is_rejected() -> None:
    with pytest.raises(Reject, match="nobody to greet"):
        asyncio.run(greet(Signup(" "), "nobody", testing.context()))


def test_a_signup_goes_its_whole_way(jetrunner) -> None:
    async def story() -> None:
        async with jetrunner(greet) as app:
            await app.publish("signups.ada", {"name": "Ada"})
            await app.publish("signups.bob", {"name": " "})
            await app.settled()
            [greeting] = await app.outputs("greetings.*")
            assert greeting.decode(Greeting) == Greeting("Hello, Ada!")
            [letter] = await app.dead_letters("greet")
            assert letter.reason == "rejected"

    asyncio.run(story())
'''

STREAMS = {
    "signups": 'name = "SIGNUPS"\nsubjects = ["signups.{user}"]\nmax_age = "30d"\n',
    "greetings": 'name = "GREETINGS"\nsubjects = ["greetings.{user}"]\nmax_age = "30d"\n',
}

IGNORED = ".jetrunner/\n.venv/\n__pycache__/\n"

README = """\
# $name

```console
runner dev                                           # a server of its own, streams applied, reload on change
runner publish signups.ada '{"name": "Ada"}'         # in another terminal
runner deadletter list                               # what was given up, and why
```

Functions are in `functions/`, the streams they read and write in `streams/`. `runner check` tells what is wrong.
"""


def files(name: str) -> dict[str, str]:
    """The files of a new project: path → text."""
    return {
        "pyproject.toml": Template(PYPROJECT).substitute(
            name=name, package=requirement(), package_dev=requirement("dev")
        ),
        "README.md": Template(README).substitute(name=name),
        ".gitignore": IGNORED,
        "functions/__init__.py": "",
        "functions/greet.py": GREET,
        "tests/test_greet.py": TEST,
        **{f"streams/{stream}.toml": text for stream, text in STREAMS.items()},
    }
