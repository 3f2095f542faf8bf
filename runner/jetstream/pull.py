"""Continuous pull of one durable consumer: requests overlap, and a slot is free before its message is asked for.

Rule 1: what is out (asked for, not here yet) and unsettled is never more than `limit` and what may wait (`core/ahead.py`).
Rule 2: a message that comes again while it is still unsettled here is the same message: it only renews its reply
        (unless it was stored at another time: then the stream's history is another, and so is the message).
Rule 3: a message that the server may have delivered to another by now (ours was not heard of for its `ack_wait`) is not
        asked for again: it has come again, or will, by itself.
Rule 4: silence for twice the heartbeat or more, a lost connection or a status means that nothing is out any more: ask again.
        The server may still hold what was written off so: what it says of those requests later counts no more.
Rule 5: a request says how many bytes it may bring, within what all pulls of the process may have in flight (`inflight.py`).
        A pull learns how large its messages are, and has fewer of them in flight where they are large.
Rule 6: what was settled is kept back until the stream was found to be the same on this connection (`withheld.py`).
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
"""The server takes a message back after 10 s of silence."""
STOOD_SECONDS = 0.5
"""The loop has stood still where it is so long since the last look: what the server has said meanwhile may not be read yet."""
BACKLOG_BYTES = 4 << 20
"""Unwritten bytes at which nothing more is asked for."""
MOST_REQUESTS = 64
"""Written at once, where the server caps what one of them may ask for."""
REQUEST = b'{"batch":%d,"expires":%d,"idle_heartbeat":%d,"max_bytes":%d}'
COMPLETED = b"NATS/1.0 409 Batch Completed"

clock = time.monotonic


class Pull:
    """Deliveries of one consumer, handed to `deliver` from within the read that brought them."""

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
        """`limit` messages run at once; up to `ahead` more wait here for that."""
        self.stream = stream
        self.durable = durable
        self.limit = limit
        self.unsettled: dict[int, Delivery] = {}
        """Every delivery that is not settled yet, by stream sequence."""
        self.expires, self.heartbeat = EXPIRES_SECONDS, HEARTBEAT_SECONDS
        self.patience = 2 * HEARTBEAT_SECONDS
        self.extend_every = EXTEND_SECONDS
        """A message in work is extended this often, in seconds."""
        self.original: Callable[[bytes], bytes | None] | None = None
        """Makes the original subject of a stored one, where the stream is sharded; None for one that is not ours."""
        self.most = UNCAPPED
        """No more than so many may be here or on their way, whatever `limit` says."""
        self._connection, self._wire = connection, connection.wire
        self._wire.pulls.add(self)
        self._deliver = deliver
        self._missing = missing
        self._epoch, self._out, self._round = -1, 0, b"0"
        """The round of the requests that count is another one once they were written off."""
        self._heard = self._not_before = self._watched = 0.0
        self._last: tuple[bytes | None, bytes] | None = None
        """The newest body since the last look."""
        self._weight = Weight(connection.in_flight, limit, self.wake, ahead)
        self.due = False
        """Whether the next write will ask for more."""
        self.is_open = False
        """Whether it asks for messages."""
        self.refused = ""
        """Why the server takes no request, empty while it does."""
        self._caps = Caps()
        self._ours = f"$JS.ACK.{stream}.{durable}.".encode()
        self._next = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{durable}".encode()
        self._inbox = b""
        self._unsubscribe: Unsubscribe | None = None
        self._told = Withheld(self._wire)
        self.doubted: Callable[[Identity], None] = _nothing
        """Called with a message that is here when another has its number."""
        self.gone: Pull | None = None
        """Where messages end that the stream has lost; never opened."""

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
        """Ask for nothing more. What is on its way still arrives, and no more after this returns."""
        self.is_open = False
        self._weight.close()
        self._last = None
        if self._unsubscribe is not None and self._connection.is_connected:
            await self._unsubscribe()

    def room(self) -> int:
        """How many messages may be here, or on their way, at once, but for those that wait until others have run."""
        return self.limit

    def wake(self) -> None:
        """A slot is free: ask for more with the next write."""
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
        """`settle` with `+ACK`, for the straight way: it is known to be unsettled."""
        if self.unsettled.pop(delivery.sequence, None) is not None:
            self._told.ack(delivery.reply)
            if not self.due:
                self.due = True
                self._wire.due(self._top_up)

    async def again(self, delivery: Delivery, delay: float) -> None:
        """Have the server deliver the message again, after `delay` seconds."""
        self.later(delivery, delay)

    def later(self, delivery: Delivery, delay: float) -> None:
        """The same: the server counts deliveries, whatever they are for."""
        self._return(delivery, b'-NAK {"delay":%d}' % int(delay * 1e9) if delay > 0 else b"-NAK")

    def give_back(self, delivery: Delivery) -> None:
        """Return a message that has not started: any instance may have it at once."""
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
        """Tell the server that we still work on it (`+WPI` starts its ack_wait anew)."""
        if self._connection.is_connected:  # kept until then, they would pile up through an outage
            if now - delivery.extended > LAPSED_SECONDS:
                delivery.lapsed = True
            delivery.extended = now
            self._wire.answer(delivery.reply, b"+WPI")

    def lost(self) -> None:
        """The connection is lost: the server may not have heard what was written after it was last heard of."""
        heard = self._wire.heard
        for delivery in self.unsettled.values():
            if delivery.extended > heard:
                delivery.extended = heard - EXTEND_SECONDS

    def watch(self, now: float) -> None:
        """Called a few times a second: notices a lost connection and a silent server."""
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
        """The consumer is there again after it was missing."""
        self._write_off()
        self._not_before = 0.0
        self.wake()

    def _interrupted(self) -> None:
        """The server was silent, or another one leads the consumer: acks may have gone nowhere."""

    def _write_off(self) -> None:
        """Nothing is out any more, as far as we know."""
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
        reply = self._inbox + self._round
        if large:
            reply += b"-%d" % weight.number
            size, length = weight.ask(reply, min(size, most), self._caps.size, now + expires)
            self._wire.publish_known(self._next, REQUEST % (size, *timing, length), reply)
        else:
            size = min(size, most * MOST_REQUESTS)
            for asked in range(0, size, most):
                batch = min(most, size - asked)
                request = REQUEST % (batch, *timing, min(batch * weight.part, self._caps.size))
                self._wire.publish_known(self._next, request, reply)
        self._out += size
        weight.asked(size)

    @property
    def holding(self) -> int:
        """Messages here that wait for others; they are not in flight."""
        return 0

    def _notice(self, newest: tuple[bytes | None, bytes], now: float) -> None:
        """Messages come, and this is the newest."""
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
        if self._out <= 0 and not self.due:
            self._out = 0
            self.wake()

    def _status(self, subject: bytes, header: bytes | None) -> None:
        large = subject != (known := self._inbox + self._round)
        if large and not subject.startswith(known + b"-"):
            return
        now = self._heard = clock()
        if header is not None and header.startswith(COMPLETED):
            if large:
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
        """Of what is here, or was settled and is kept back."""
        return self._told.newest().newer(newest(self.unsettled))

    arrived = newest

    def silence(self) -> None:
        """Keep back what is settled from now on, and what could not be written any more."""
        self._told.begin(self._wire.withdraw(f"{self.stream}.{self.durable}".encode()))

    def confirm(self) -> None:
        """Tell the server what was settled meanwhile."""
        for reply in self._told.end():
            self._wire.ack(reply)

    def cut(self, first: int, known: Identity) -> None:
        """What becomes of messages that the stream has lost (`is_lost`), the server is not told."""
        for delivery in list(self.unsettled.values()):
            if is_lost(delivery.reply, first, known):
                del self.unsettled[delivery.sequence]
                self._disown(delivery)
        self._told.cut(first, known)
        self.wake()

    def _other(self, known: Delivery) -> bool:
        """Another message has come with its number; whether that is kept out for now."""
        self._disown(known)
        self.doubted(identity(known.reply))
        return False

    def _disown(self, delivery: Delivery) -> None:
        """An ack for it would be another message's: it ends here, and the server hears nothing of it."""
        if self.gone is None:
            self.gone = unopened(self._connection, self.stream)
        delivery.source = self.gone
        self.gone.unsettled[delivery.sequence] = delivery


def unopened(connection: Connection, stream: str) -> Pull:
    """It asks for nothing and tells nothing: what is in it is settled in this process alone."""
    made = Pull(connection, stream, "", 0, _nothing, _nothing)
    made.extend_every = math.inf
    made.silence()
    return made


def _nothing(*_: object) -> None: ...
