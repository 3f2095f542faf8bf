"""The running process, and the way in from outside."""

from runner.engine.blocking import BlockingApp, connect_sync
from runner.engine.client import App, connect

__all__ = ["App", "BlockingApp", "connect", "connect_sync"]
