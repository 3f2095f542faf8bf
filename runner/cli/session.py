"""The connection of one command; it waits until the cluster has a leader."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import click

from runner.config import Settings
from runner.jetstream.connection import Connection, connect
from runner.jetstream.server import led


@asynccontextmanager
async def session(settings: Settings) -> AsyncIterator[Connection]:
    """A connection for the time of the block. Raises `Unreachable`, `SettingsError`, and JetrunnerError if the cluster gets no leader."""
    async with connect(settings) as connection:
        await led(connection, settings.leader_timeout, say)
        yield connection


def say(text: str) -> None:
    """Print to stderr what the command waits for."""
    click.echo(text, err=True)
