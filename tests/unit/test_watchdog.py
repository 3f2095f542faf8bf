"""What the watchdog says keeps the loop from going on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from runner.process.watchdog import look

CODE = """
def compute(stop):
    while not stop.is_set():
        sum(range(100))

def rest(stop):
    stop.wait()

def blocks(stop, ask):
    return ask(stop)
"""


def user_code() -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "functions.shop"}
    exec(compile(CODE, "/project/functions/shop.py", "exec"), names)  # as a user's module
    return names


@contextmanager
def threads(work: Callable[[threading.Event], None], count: int = 3) -> Iterator[None]:
    stop = threading.Event()
    running = [threading.Thread(target=work, args=(stop,)) for _ in range(count)]
    for each in running:
        each.start()
    try:
        yield
    finally:
        stop.set()
        for each in running:
            each.join()


def looked_at_from_outside(stop: object = None) -> str:
    """What is said of this thread, which waits meanwhile."""
    told: list[str] = []
    here = threading.get_ident()
    watcher = threading.Thread(target=lambda: told.append(look(here)))
    watcher.start()
    watcher.join()
    return told[0]


def test_threads_that_compute_are_named_with_pythons_lock() -> None:
    with threads(user_code()["compute"]):
        told = looked_at_from_outside()
    assert "Python's lock" in told
    assert "3 of them compute, one in compute at /project/functions/shop.py:" in told
    assert 'executor="process"' in told
    assert "another process" in told


def test_threads_that_wait_are_not_blamed() -> None:
    with threads(user_code()["rest"]):
        told = looked_at_from_outside()
    assert "Python's lock" not in told
    assert "functions/shop.py" not in told


def test_code_that_stands_in_the_loop_itself_is_named_though_threads_compute() -> None:
    names = user_code()
    with threads(names["compute"]):
        told = names["blocks"](None, looked_at_from_outside)
    assert "the event loop is blocked by blocks at /project/functions/shop.py:10" in told
    assert "make it `def`" in told
