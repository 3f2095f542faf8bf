"""The connection of one command: to a cluster that has a leader, which is waited for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import click

from runner.config import Settings
from runner.jetstream.connection import Connection, connect
from runner.jetstream.server import led


@asynccontextmanager
async def session(settings: Settings) -> AsyncIterator[Connection]:
    """A connection for the time of the block. Raises `Unreachable`, `SettingsError`, and JetrunnerError where no leader comes."""
    async with connect(settings) as connection:
        await led(connection, settings.leader_timeout, say)
        yield connection


def say(text: str) -> None:
    """What the command waits for."""
    click.echo(text, err=True)
