"""Where the airports lie, and how far it is from one to another."""

from __future__ import annotations

import csv
from math import acos, cos, radians, sin
from pathlib import Path
from typing import NamedTuple

FILE = Path(__file__).parent / "_data" / "airports.csv"
EARTH_RADIUS = 3958.8  # miles


class Place(NamedTuple):
    """A point on the Earth, in degrees."""

    latitude: float
    longitude: float

    def miles_to(self, other: Place) -> float:
        """The way along the great circle."""
        here, there = radians(self.latitude), radians(other.latitude)
        turn = cos(radians(self.longitude - other.longitude))
        return EARTH_RADIUS * acos(min(1.0, sin(here) * sin(there) + cos(here) * cos(there) * turn))


def airports() -> dict[str, Place]:
    """Every airport of the data by its IATA code."""
    with FILE.open(newline="") as file:
        return {
            row["iata"]: Place(float(row["latitude"]), float(row["longitude"]))
            for row in csv.DictReader(file)
        }
