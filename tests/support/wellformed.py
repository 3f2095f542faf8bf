"""One good example of all that is read from NATS: what the fuzzer bends."""

from __future__ import annotations

from typing import Any

INSTANCE = "web-1-7-aa"
PLACE = {
    "stream": "ORDERS",
    "sequence": 7,
    "timestamp_ns": 1_700_000_000_000_000_000,
    "subject": "orders.anna.created",
}
MEMBER = {
    "instance": INSTANCE,
    "functions": ["charge"],
    "leaving": False,
    "server": "NABC",
    "bound": 0.045,
    "written": 3,
}
CLAIM = {"owner": INSTANCE, "epoch": 3, "since": 1.7e9, "before": ["web-2-8-bb"]}
OPENING = {
    "stream": "ORDERS", "created": "2026-01-01T00:00:00.1Z", "subject": "orders.*.created", "generation": 1, "count": 8,
    "positions": [1], "first": 0, "start": 1, "through": 9, "to": -1, "keys": [1],
}  # fmt: skip
MARK = {
    "state": "parked",
    "since": 1.7e9,
    "through": PLACE,
    "positions": [1],
    "given_up": PLACE,
    "letter": 4,
    "letter_stored": 9,
    "epoch": 2,
    "key": "anna",
    "letters": [[4, 9, 7, 1_700_000_000_000_000_000, 1.7e9, [["traceparent", "00-0-0-01"]]]],
    "failed": {"count": 1},
}
FAILED = {"count": 2, "due": 1.7e9, "delay": 90.0, "message": 1_700_000_000_000_000_000}
STARTS = {"stored": 5, "starts": [{"instance": INSTANCE, "stage": 3}, {"instance": "x", "stage": 1}]}
FLOOR = {"sequence": 17, "created": "2026-01-01T00:00:00.1Z"}
PART = {
    "stream": "ORDERS", "durable": "shop-charge", "ordered": True, "in_flight": 1, "handled": 2, "acked": 2, "failed": 0,
    "retried": 0, "rate": 0.5, "duration": [5, 1, 1], "dead": {"rejected": 1},
}  # fmt: skip
SNAPSHOT = {"instance": "web-1-7", "since": 1.7e9, "functions": {"charge": PART}}
STATE = {"messages": 1, "bytes": 1, "first_seq": 1, "last_seq": 1, "first_ts": "x"}
INFO = {
    "config": {"name": "ORDERS", "subjects": ["orders.>"]},
    "created": "2026-01-01T00:00:00Z",
    "state": STATE,
}
CONSUMER = {
    "name": "shop-charge", "created": "2026-01-01T00:00:00Z", "config": {"durable_name": "shop-charge"},
    "delivered": {"consumer_seq": 1, "stream_seq": 1}, "ack_floor": {"consumer_seq": 1, "stream_seq": 1},
    "num_ack_pending": 0, "num_pending": 0, "num_waiting": 1,
}  # fmt: skip
ANSWERS: dict[str, Any] = {
    "STREAM.INFO.ORDERS": INFO,
    "STREAM.LIST": {"total": 1, "streams": [INFO]},
    "CONSUMER.INFO.ORDERS.shop-charge": CONSUMER,
    "CONSUMER.LIST.ORDERS": {"total": 1, "consumers": [CONSUMER]},
    "STREAM.MSG.GET.ORDERS": {
        "message": {"seq": 1, "time": "2026-01-01T00:00:00Z", "subject": "a", "data": "eA=="}
    },
}
BLOCK = (
    b"NATS/1.0\r\nNats-Stream: DEADLETTERS\r\nNats-Sequence: 5\r\nNats-Time-Stamp: 2026-01-01T00:00:00.5Z\r\n"
    b"Jetrunner-Dead-Stream: ORDERS\r\nJetrunner-Dead-Sequence: 7\r\nJetrunner-Dead-Traceback: a\\nb\\\\c\r\n"
    b"Jetrunner-Origin-Stream: ORDERS\r\nJetrunner-Origin-Sequence: 7\r\nJetrunner-Origin-Subject: orders.a\r\n"
    b"Jetrunner-Origin-Timestamp: 9\r\nNats-Msg-Id: x\r\ntraceparent: 00-0-0-01\r\n\r\n"
)
ACKS = [
    b"$JS.ACK.ORDERS.shop-charge.1.17.4.1700000000000000000.0",
    b"$JS.ACK.hub.ACCHASH.ORDERS.shop-charge.1.17.4.1700000000000000000.0.tok",
]
STREAM_FILE = """
name = "LEDGER"
subjects = ["ledger.{account}.*"]
duplicate_window = "15m"
max_bytes = "1GiB"
discard = "old"
num_replicas = 1
[shards]
count = 32
by = ["account"]
"""
