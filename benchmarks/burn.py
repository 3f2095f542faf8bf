"""Functions that compute, beside one whose latency is measured: in processes of their own, or in threads of its process."""

from __future__ import annotations

import os
import pickle
import sys
import time
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

from runner import consume
from runner.bindings import Binding, binding_of
from runner.discovery import Project
from runner.runtime.cellline import GivenFunctions

COMPUTED_NS = 50_000_000
"""CPU that each call uses."""
STREAM = "BURN"
SUBJECT = "burn.*"
SLOTS = max(1, (os.cpu_count() or 1) - 1)
"""As many of either kind: the default of `executor="process"`."""
Kind: TypeAlias = Literal["process", "thread"]


def compute(job: bytes) -> None:
    end = time.thread_time_ns() + COMPUTED_NS
    while time.thread_time_ns() < end:
        pass


@consume(SUBJECT, stream=STREAM, executor="process", concurrency=SLOTS)
def process(job: bytes) -> None:
    compute(job)


@consume(SUBJECT, stream=STREAM, concurrency=SLOTS)
def thread(job: bytes) -> None:
    compute(job)


def binding(kind: Kind) -> Binding:
    found = binding_of(process if kind == "process" else thread)
    assert found is not None
    return found


def project(kind: Kind) -> Project:
    return Project(Path(), "bench", (binding(kind),))


def given(kind: Kind) -> GivenFunctions:
    """How a child comes by its code."""
    return GivenFunctions(tuple(sys.path), pickle.dumps(partial(project, kind)))
