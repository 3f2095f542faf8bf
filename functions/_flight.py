"""The events of this project."""

from __future__ import annotations

from msgspec import Struct


class Flight(Struct):
    """One departure, as the data has it: times in minutes, distances in miles, airports by their IATA codes."""

    date: str
    delay: int
    distance: int
    origin: str
    destination: str


class Alert(Struct):
    """A flight that left much too late."""

    origin: str
    destination: str
    date: str
    delay: int
