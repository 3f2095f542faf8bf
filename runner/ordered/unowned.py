"""What came to a shard and will not start here, since the shard is not ours any more."""

from __future__ import annotations

from runner.jetstream.connection import Connection
from runner.jetstream.reply import stream_sequence


class Unowned:
    """Their replies: the server takes them for deliveries in work until they are sent back, or run out."""

    def __init__(self, connection: Connection) -> None:
        self._wire = connection.wire
        self._replies: list[bytes] = []

    def __len__(self) -> int:
        """How many there are."""
        return len(self._replies)

    def add(self, reply: bytes) -> None:
        """One more."""
        self._replies.append(reply)

    def clear(self) -> None:
        """They are ours again: the server delivers anew what is missing."""
        self._replies.clear()

    def cut(self, first: int) -> None:
        """From this sequence on the stream has other messages."""
        self._replies = [reply for reply in self._replies if stream_sequence(reply) < first]

    def send_back(self) -> None:
        """Return what was delivered here after another had taken the shard over: it cannot know of that, and waits."""
        replies, self._replies = self._replies, []
        for reply in replies:
            self._wire.answer(reply, b"-NAK")
