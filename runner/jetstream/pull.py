"""Continuous pull of one durable consumer: requests overlap, and a slot is free before its message is asked for.

Rule 1: messages that are out (asked for, not here yet) or unsettled are at most `limit`, plus those that may wait
        (`core/ahead.py`).
Rule 2: if a message comes again while it is unsettled here, only its reply is renewed. But if it was stored at another time, it is
        another message, because the stream's history is another.
Rule 3: a message that another instance may have by now, since the server did not hear from us for its `ack_wait`, is not asked for
        again: it has come again, or will, by itself.
Rule 4: after silence for twice the heartbeat or more, a lost connection or a status, no message counts as out: the pull asks again.
        The server may still hold requests that were written off like this: what it says of them later does not count.
Rule 5: each request has a reply of its own: of two with one reply, a replicated consumer may tell only of one that it has ended.
Rule 6: a request limits its bytes, within what all pulls of the process may have in flight (`inflight.py`). A pull learns how large
        its messages are, and has fewer large ones in flight.
Rule 7: answers are kept back until the stream was found to be the same on this connection (`withheld.py`).
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable

from runner.core import acksubject, budget
from runner.core import header as headers
from runner.core.history import Identity
from runner.core.pull import UNCAPPED, Caps, request_size
from runner.jetstream.connection import Connection
from runner.jetstream.delivery import Delivery, newest
from runner.jetstream.reply import identity, is_lost, stored_at, stream_sequence
from runner.jetstream.weight import Weight
from runner.jetstream.wire import Unsubscribe
from runner.jetstream.withheld import Withheld

log = logging.getLogger("jetrunner.pull")

HEARTBEAT_SECONDS, EXPIRES_SECONDS, EXTEND_SECONDS = 2.0, 30.0, 3.0
LAPSED_SECONDS = 9.5
"""After so long another instance may have a message: the server takes it back after 10 s of silence."""
STOOD_SECONDS = 0.5
"""If the last look is so long ago, the loop has stood still: data of the server since then may not be read yet."""
BACKLOG_BYTES = 4 << 20
"""With so many unwritten bytes no more messages are asked for."""
MOST_REQUESTS = 64
"""Most requests written at once, if the server limits the size of each."""
REQUEST = b'{"batch":%d,"expires":%d,"idle_heartbeat":%d,"max_bytes":%d}'
COMPLETED = b"NATS/1.0 409 Batch Completed"

clock = time.monotonic


class Pull:
    """Pulls one consumer's deliveries, and passes them to `deliver` within the read that brought them."""

    abandons = True
    holds = False
    """Whether messages may wait here behind others of their key."""

    def __init__(
        self,
        connection: Connection,
        stream: str,
        durable: str,
        limit: int,
        deliver: Callable[[Delivery], None],
        missing: Callable[[], None],
        ahead: int = 0,
    ) -> None:
        """`limit` messages run at once; up to `ahead` more wait here."""
        self.stream = stream
        self.durable = durable
        self.limit = limit
        self.unsettled: dict[int, Delivery] = {}
        """All unsettled deliveries, by stream sequence."""
        self.expires, self.heartbeat = EXPIRES_SECONDS, HEARTBEAT_SECONDS
        self.patience = 2 * HEARTBEAT_SECONDS
        self.extend_every = EXTEND_SECONDS
        """Seconds after which the ack wait of a message in work is extended."""
        self.original: Callable[[bytes], bytes | None] | None = None
        """Gives the original of a stored subject, if the stream is sharded; None if the message is not ours."""
        self.most = UNCAPPED
        """At most so many messages may be here or on their way, whatever `limit` is."""
        self._connection, self._wire = connection, connection.wire
        self._wire.pulls.add(self)
        self._deliver = deliver
        self._missing = missing
        self._epoch, self._out, self._round, self._number = -1, 0, b"0", 0
        """The replies of the present requests begin with the round; it changes when they are written off."""
        self._heard = self._not_before = self._watched = 0.0
        self._last: tuple[bytes | None, bytes] | None = None
        """Headers and body of the newest message since the last look."""
        self._weight = Weight(connection.in_flight, limit, self.wake, ahead)
        self.due = False
        """Whether the next write will ask for more."""
        self.is_open = False
        self.refused = ""
        """Why the server takes no requests; empty while it does."""
        self._caps = Caps()
        self._ours = f"$JS.ACK.{stream}.{durable}.".encode()
        self._next = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{durable}".encode()
        self._inbox = b""
        self._unsubscribe: Unsubscribe | None = None
        self._told = Withheld(self._wire)
        self.doubted: Callable[[Identity], None] = _nothing
        """Called with a message that is here when another message comes with its sequence."""
        self.gone: Pull | None = None
        """Holds messages that the stream has lost; never opened."""

    async def open(self) -> None:
        """Subscribe and ask for the first messages."""
        inbox = self._connection.new_inbox()
        self._inbox = inbox.encode() + b"."
        self._wire.limit.require(self._next, self._inbox)
        self._unsubscribe = await self._wire.subscribe(f"{inbox}.*", self._arrived)
        self.is_open = True
        self._weight.open(holds=self.holds)
        self.wake()

    async def close(self) -> None:
        """Ask for no more messages. Those on their way still arrive, but none after this returns."""
        self.is_open = False
        self._weight.close()
        self._last = None
        if self._unsubscribe is not None and self._connection.is_connected:
            await self._unsubscribe()

    def room(self) -> int:
        """How many messages may be here or on their way at once, without those that wait until others have run."""
        return self.limit

    def wake(self) -> None:
        """Ask for more messages with the next write, because a slot is free."""
        if not self.due:
            self.due = True
            self._wire.due(self._top_up)

    def settle(self, delivery: Delivery, verb: bytes) -> None:
        """Answer a delivery once and free its slot."""
        if not delivery.settled:
            del self.unsettled[delivery.sequence]
            self._told.answer(delivery.reply, verb)
            self.wake()

    def ack(self, delivery: Delivery) -> None:
        """`settle` with `+ACK`, for the common case."""
        if self.unsettled.pop(delivery.sequence, None) is not None:
            self._told.ack(delivery.reply)
            if not self.due:
                self.due = True
                self._wire.due(self._top_up)

    async def again(self, delivery: Delivery, delay: float) -> None:
        """Have the server deliver the message again after `delay` seconds."""
        self.later(delivery, delay)

    def later(self, delivery: Delivery, delay: float) -> None:
        """Like `again`: the server counts deliveries for any reason."""
        self._return(delivery, b'-NAK {"delay":%d}' % int(delay * 1e9) if delay > 0 else b"-NAK")

    def give_back(self, delivery: Delivery) -> None:
        """Give back a message that has not started: any instance may have it at once."""
        self._weight.asked(-1)  # it was not completed
        self._return(delivery, b"-NAK")

    def _return(self, delivery: Delivery, verb: bytes) -> None:
        if delivery.lapsed or clock() - (delivery.extended or delivery.started or clock()) > LAPSED_SECONDS:
            if self.unsettled.get(delivery.sequence) is delivery:
                del self.unsettled[delivery.sequence]
                self.wake()
        else:
            self.settle(delivery, verb)

    def extend(self, delivery: Delivery, now: float) -> None:
        """Tell the server that we still work on it (`+WPI` restarts its ack wait)."""
        if self._connection.is_connected:  # during an outage they would pile up
            if now - delivery.extended > LAPSED_SECONDS:
                delivery.lapsed = True
            delivery.extended = now
            self._wire.answer(delivery.reply, b"+WPI")

    def lost(self) -> None:
        """Note a lost connection: the server may not have heard writes after it was last heard of."""
        heard = self._wire.heard
        for delivery in self.unsettled.values():
            if delivery.extended > heard:
                delivery.extended = heard - EXTEND_SECONDS

    def watch(self, now: float) -> None:
        """Notice a lost connection and a silent server; called a few times a second."""
        stood, self._watched = now - self._watched > STOOD_SECONDS, now
        if not self.is_open or not self._connection.is_connected:
            return
        if self._last is not None:
            self._notice(self._last, now)
        self._weight.weigh(self.unsettled, self.holding)
        if self._weight.lapsed(now):
            self._out = 0
        lost, patience = self._epoch != self._wire.epoch, self.patience * (2 if stood else 1)
        if lost or (self._out > 0 and now - self._heard > patience):
            self._write_off()
            self.wake()
            if not lost:
                self._interrupted()
        elif self._out == 0 or self._weight.size:
            self.wake()

    def ask_again(self) -> None:
        """Ask again, because the consumer exists again."""
        self._write_off()
        self._not_before = 0.0
        self.wake()

    def _interrupted(self) -> None:
        """Called when the server was silent, or the consumer has a new leader: acks may have been lost."""

    def _write_off(self) -> None:
        """Write off all requests: no message counts as out."""
        self._out = 0
        self._weight.written_off()
        self._round = b"%d" % (int(self._round) + 1)

    def _top_up(self) -> None:
        self.due = False
        now = clock()
        if not self.is_open or not self._connection.is_connected or now < self._not_before:
            return
        if self._epoch != self._wire.epoch:
            self._epoch = self._wire.epoch
            self._caps = Caps()
            self._write_off()
        large = self._weight.size
        if large:
            self._weight.weigh(self.unsettled, self.holding)
        room = min(self.room() + self._weight.ahead(now, len(self.unsettled) + self._out), self.most)
        size = request_size(room, len(self.unsettled), self._out)
        if size <= 0 or self._wire.backlog > BACKLOG_BYTES:
            if large:
                self._weight.stand_back()
            return
        if self._last is not None:
            self._notice(self._last, now)
            large = self._weight.size
        if large and not self._weight.grant(size):
            return
        if self._out == 0:
            self._heard = now
        most, weight = self._caps.batch, self._weight
        expires = min(weight.expires, self.expires, self._caps.expires)
        timing = int(expires * 1e9), int(min(self.heartbeat, expires / 2) * 1e9)
        self._number += 1
        reply = b"%b%b-%d" % (self._inbox, self._round, self._number)
        if large:
            size, length = weight.ask(reply, min(size, most), self._caps.size, now + expires)
            self._wire.publish_known(self._next, REQUEST % (size, *timing, length), reply)
        else:
            size = min(size, most * MOST_REQUESTS)
            for asked in range(0, size, most):
                batch = min(most, size - asked)
                request = REQUEST % (batch, *timing, min(batch * weight.part, self._caps.size))
                self._wire.publish_known(self._next, request, b"%b-%d" % (reply, asked))
        self._out += size
        weight.asked(size)

    @property
    def holding(self) -> int:
        """Messages here that wait for others; they do not count as in flight."""
        return 0

    def _notice(self, newest: tuple[bytes | None, bytes], now: float) -> None:
        """Note the newest message."""
        self._last = None
        self._heard = now
        self.refused = ""
        self._weight.notice(len(newest[0] or b"") + len(newest[1]))

    def _arrived(self, subject: bytes, reply: bytes, header: bytes | None, body: bytes) -> None:
        if not reply:
            self._status(subject, header)
            return
        self._last = header, body
        self._out -= 1
        if self._out <= 0:  # a request that was written off brings messages, too
            self._out = 0
            self.wake()
        if reply.startswith(self._ours):
            parts = reply[len(self._ours) :].split(b".", 2)
            sequence, attempt = int(parts[1]), int(parts[0])
        else:  # the form with a domain and an account hash
            sequence, attempt = stream_sequence(reply), acksubject.parse(reply).delivered
        known = self.unsettled.get(sequence)
        if known is not None:
            if stored_at(known.reply) == stored_at(reply):
                known.reply, known.extended, known.lapsed = reply, clock(), False
                return
            if self._other(known):
                return
        if self.original is not None:
            found = self.original(subject)
            if found is None:
                self._wire.ack(reply)
                self.wake()
                return
            subject = found
        new = Delivery(subject, reply, header, body, sequence, attempt, self, attempt > 1)
        self.unsettled[sequence] = new
        self._deliver(new)

    def _status(self, subject: bytes, header: bytes | None) -> None:
        if not subject.startswith(self._inbox + self._round + b"-"):
            return
        now = self._heard = clock()
        if header is not None and header.startswith(COMPLETED):
            self._weight.ended(subject)
            self.wake()
            return
        code, text = headers.status(header or b"") or (100, "")
        if code == 100:
            self.refused = ""
            return
        self._weight.ended(subject)
        before, self.refused = self.refused, ""
        left = headers.get(header or b"", b"Nats-Pending-Messages")
        if left and left.isdigit():
            missed = min(self._out, int(left))
            self._out -= missed
            self._weight.asked(-missed)
        else:
            self._write_off()
        if text.startswith("Message Size Exceeds"):
            room = headers.get(header or b"", b"Nats-Pending-Bytes")
            largest = self._connection.max_payload + budget.OVERHEAD
            self._weight.exceeded(int(room) if room and room.isdigit() else 0, largest, self._caps.size)
        elif caps := self._caps.told(text):
            if caps != self._caps:
                log.info("pull from %s on %s: %s; it asks for less", self.durable, self.stream, text)
            self._caps = caps
        elif code in (404, 408) or text.startswith(("Leadership Change", "Server Shutdown")):
            if code == 409:
                self._not_before = now + 0.1
                self._interrupted()
            elif not self._out and not self.unsettled and self._last is None:
                self._weight.rest()
        elif code == 503 or "Deleted" in text:
            self._out = 0
            self._not_before = now + 0.25
            self._missing()
        else:
            if text != before:
                log.error("pull from %s on %s refused: %s %s", self.durable, self.stream, code, text)
            self.refused = text
            self._not_before = now + 1.0
        self.wake()

    def newest(self) -> Identity:
        """The newest message that is here, or whose settlement is kept back."""
        return self._told.newest().newer(newest(self.unsettled))

    arrived = newest

    def silence(self) -> None:
        """Keep back settlements from now on, and acks that were not written yet."""
        self._told.begin(self._wire.withdraw(f"{self.stream}.{self.durable}".encode()))

    def confirm(self) -> None:
        """Send the kept settlements to the server."""
        self._told.send()

    def cut(self, first: int, known: Identity) -> None:
        """Disown messages that the stream has lost (`is_lost`): the server hears no more of them."""
        for delivery in list(self.unsettled.values()):
            if is_lost(delivery.reply, first, known):
                del self.unsettled[delivery.sequence]
                self._disown(delivery)
        self._told.cut(first, known)
        self.wake()

    def _other(self, known: Delivery) -> bool:
        """Handle another message with the same sequence; gives whether that one is ignored for now."""
        self._disown(known)
        self.doubted(identity(known.reply))
        return False

    def _disown(self, delivery: Delivery) -> None:
        """End a delivery without the server: an ack for it would settle another message."""
        if self.gone is None:
            self.gone = unopened(self._connection, self.stream)
        delivery.source = self.gone
        self.gone.unsettled[delivery.sequence] = delivery


def unopened(connection: Connection, stream: str) -> Pull:
    """A pull that asks for no messages and sends no acks: its messages are settled only in this process."""
    made = Pull(connection, stream, "", 0, _nothing, _nothing)
    made.extend_every = math.inf
    made.silence()
    return made


def _nothing(*_: object) -> None: ...
