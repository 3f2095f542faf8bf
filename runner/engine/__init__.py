"""The running process, and the way in from outside."""

from runner.engine.client import App, connect

__all__ = ["App", "connect"]
