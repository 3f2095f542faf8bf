"""The state of a stream, and whether it is the remembered one: it asks the leader what `core/history.py` wants to know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runner.core.history import HistoryAnswers, Identity, StreamState, Verdict, judge
from runner.jetstream.connection import Connection
from runner.jetstream.messages import leader_message, nanoseconds, timestamp


def state(info: Mapping[str, Any]) -> StreamState:
    """The state in the server's info on a stream."""
    told, cluster = info["state"], info.get("cluster") or {}
    return StreamState(
        created=info["created"],
        first=told["first_seq"],
        last=told["last_seq"],
        last_ns=nanoseconds(told["last_ts"]) if told["last_seq"] else 0,
        now_ns=nanoseconds(info.get("ts", "")),
        leader=cluster.get("leader", ""),
        silent=tuple(each["active"] / 1e9 for each in cluster.get("replicas") or ()),
        work_queue=info["config"].get("retention") == "workqueue",
        in_memory=info["config"].get("storage") == "memory",
    )


async def look(connection: Connection, stream: str) -> StreamState:
    """The state of a stream now. Raises `ServerError`, also if there is no such stream."""
    return state(await connection.api(f"STREAM.INFO.{stream}"))


async def compare(connection: Connection, stream: str, known: Identity, now: StreamState) -> Verdict:
    """Whether the stream, in its state `now`, is the one in which `known` was the newest message."""
    answers = HistoryAnswers()
    while True:
        verdict = judge(known, now, answers)
        if not isinstance(verdict, str):
            return verdict
        if verdict == "stands":
            answers = HistoryAnswers(await _stored(connection, stream, known.sequence), answers.later)
        else:
            answers = HistoryAnswers(answers.stands, await _later(connection, stream, known.stored_ns))


async def _stored(connection: Connection, stream: str, sequence: int) -> int:
    message = await leader_message(connection, stream, {"seq": sequence, "no_hdr": True})
    return message.stored_ns if message is not None else 0


async def _later(connection: Connection, stream: str, stored_ns: int) -> int:
    message = await leader_message(connection, stream, {"start_time": timestamp(stored_ns + 1)})
    return message.sequence if message is not None else 0
