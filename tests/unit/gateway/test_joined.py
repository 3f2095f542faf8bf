"""Head and body of an answer leave in one write; a head that no body follows leaves, too."""

from __future__ import annotations

import asyncio

import pytest

from runner.gateway.joined import Joined

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n"


class Recorded(asyncio.Transport):
    """A transport that tells what was asked of it."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[bytes | str] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.told.append(bytes(data))

    def close(self) -> None:
        self.told.append("closed")

    def is_closing(self) -> bool:
        return "closed" in self.told


@pytest.fixture
def transport() -> Recorded:
    return Recorded()


def test_a_head_that_tells_a_length_leaves_with_its_body(transport: Recorded) -> None:
    joined = Joined(transport)
    joined.write(HEAD)
    assert transport.told == []
    joined.write(b"{}")
    assert transport.told == [HEAD + b"{}"]


def test_each_answer_of_a_connection_leaves_by_itself(transport: Recorded) -> None:
    joined = Joined(transport)
    for _ in range(2):
        joined.write(HEAD)
        joined.write(b"{}")
    assert transport.told == [HEAD + b"{}"] * 2


def test_a_body_that_looks_like_a_head_is_a_body(transport: Recorded) -> None:
    joined = Joined(transport)
    joined.write(HEAD)
    joined.write(HEAD)
    assert transport.told == [HEAD + HEAD]


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ],
)
def test_a_head_that_tells_no_length_waits_for_nothing(transport: Recorded, head: bytes) -> None:
    joined = Joined(transport)
    joined.write(head)
    joined.write(b"2\r\n{}\r\n")
    assert transport.told == [head, b"2\r\n{}\r\n"]


def test_the_head_to_a_head_request_leaves_when_the_answer_is_whole(transport: Recorded) -> None:
    joined = Joined(transport)
    joined.write(HEAD)
    joined.flush()
    joined.flush()
    assert transport.told == [HEAD]


def test_what_is_kept_leaves_before_the_connection_ends(transport: Recorded) -> None:
    joined = Joined(transport)
    joined.write(HEAD)
    assert not joined.is_closing()
    joined.close()
    assert transport.told == [HEAD, "closed"]
    assert joined.is_closing()
