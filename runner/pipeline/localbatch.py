"""A batch without a server: one call takes all its messages; if the call fails, smaller batches follow, as in a process."""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping, Sequence
from functools import partial
from typing import Any

import anyio
from msgspec import Struct

from runner import arguments, batches, codec
from runner.bindings import Binding
from runner.context import Context
from runner.core import inorder
from runner.core.settlement import Failed, Outcome, TimedOut, Undecodable
from runner.core.sharding import key
from runner.core.signals import PartialFailure, Retry
from runner.pipeline.around import surrounded
from runner.pipeline.local import LocalMessage, Made, called, context_of, outputs_of


class Behind(Struct, frozen=True):
    """The outcome of a message behind a failed one of its key: it runs after that."""


class CalledMessage(Struct, frozen=True):
    """A message that is called together with others."""

    place: int
    context: Context[Any]
    arguments: Sequence[Any]


class LocalBatch:
    """Messages that come to one function for the first time."""

    def __init__(self, binding: Binding, messages: Sequence[LocalMessage], state: Any, host: Any) -> None:
        self.ended: list[Made | Outcome | Behind] = [Behind()] * len(messages)
        """The outcome of each message."""
        self._binding, self._messages = binding, messages
        self._state, self._host = state, host
        call = arguments.compile_call(binding, with_context=bool(binding.around))
        self._kind = binding.kind
        if binding.around:
            call = surrounded(call, binding, partial(called, binding.kind))
            self._kind = "async"
        self._call = call
        positions = binding.key_positions
        self._keys: list[Hashable] = [
            key(each.subject, positions) if positions else at for at, each in enumerate(messages)
        ]
        self._stopped: set[Hashable] = set()
        """Keys with a failed message."""

    async def run(self) -> None:
        """Call the function until every message has an outcome."""
        groups: dict[Hashable, list[int]] = {}
        one_key = bool(self._binding.ordered_by) and self._binding.batch_by == "key"
        for at, name in enumerate(self._keys):
            groups.setdefault(name if one_key else None, []).append(at)
        for places in groups.values():
            await self._run(places)

    async def _run(self, places: Sequence[int]) -> None:
        taken = [each for at in places if self._keys[at] not in self._stopped and (each := self._bound(at))]
        if not taken:
            return
        began = time.perf_counter()
        ended = await self._called(taken)
        seconds = time.perf_counter() - began
        if not isinstance(ended, (Failed, TimedOut)):
            self._settle(taken, ended, seconds, {})
            return
        error = ended.error if isinstance(ended, Failed) else None
        nothing = [None] * len(taken)
        if isinstance(error, PartialFailure):
            failed = {at: Failed(each) for at, each in error.failures.items()}
            self._settle(taken, nothing, seconds, failed)
        elif len(taken) == 1 or isinstance(error, Retry):
            self._settle(taken, nothing, seconds, dict.fromkeys(range(len(taken)), ended))
        else:
            half = len(taken) // 2
            for part in (taken[:half], taken[half:]):
                await self._run([each.place for each in part])

    def _bound(self, place: int) -> CalledMessage | None:
        message = self._messages[place]
        context = context_of(self._binding, message, self._state, self._host, sequence=place + 1)
        subject = message.subject.encode(errors="surrogateescape")
        try:
            given = self._call.bind(subject, message.body, message.is_msgpack, context)
        except Exception as error:  # noqa: BLE001  a type's own validation may raise anything
            self.ended[place] = Undecodable(codec.explain(error))
            return None
        return CalledMessage(place, context, given)

    async def _called(self, taken: Sequence[CalledMessage]) -> Sequence[Any] | Failed | TimedOut:
        """The handler's result for each message, or its failure."""
        columns: list[Any] = [
            list(column) for column in zip(*(each.arguments for each in taken), strict=True)
        ]
        if self._call.taker is not None:
            columns[self._call.taker] = batches.context_of(tuple(each.context for each in taken))
        try:
            with anyio.move_on_after(self._binding.timeout):
                return batches.results(await called(self._kind, self._call.handler, columns), len(taken))
            return TimedOut(self._binding.timeout)
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:  # noqa: BLE001  sys.exit in a handler is a failed attempt, too
            return Failed(batches.checked(error, len(taken)))

    def _settle(
        self,
        taken: Sequence[CalledMessage],
        made: Sequence[Any],
        seconds: float,
        failed: Mapping[int, Outcome],
    ) -> None:
        """Settle by key: messages before the first failed one have succeeded, later ones are not done."""
        keys = [self._keys[each.place] for each in taken]
        division = inorder.divide(keys, failed)
        for at in division.before:
            place, published = taken[at].place, taken[at].context.seal() or []
            try:
                items = [] if made[at] is None else [made[at]]
                outputs = outputs_of(self._binding, items, self._messages[place].subject)
            except Exception as error:  # noqa: BLE001  a result that cannot be encoded
                self.ended[place] = Failed(error)
            else:
                self.ended[place] = Made(made[at], outputs, published, seconds)
        for at in division.first:
            self._stopped.add(keys[at])
            self.ended[taken[at].place] = failed[at]
