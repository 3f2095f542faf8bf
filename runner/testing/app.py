"""Functions that run in this process, on a real server of their own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar, overload

from msgspec import Struct, structs

from runner import client, codec, devserver
from runner.bindings import Binding
from runner.config import Settings
from runner.core import header, sharding
from runner.core.deadletter import DeadLetter
from runner.core.http.route import Route
from runner.core.quantity import counted
from runner.core.redaction import MSGPACK
from runner.core.streams.plan import function_of
from runner.core.subject import overlaps
from runner.errors import UsageError
from runner.gateway.sockets import bound as bound_socket
from runner.jetstream.deadletters import DeadLetters, Selection
from runner.jetstream.gathered import Gathered, SplitEvent
from runner.jetstream.inventory import consumers_on, count, real_streams
from runner.jetstream.listing import listed
from runner.jetstream.messages import leader_message, subjects
from runner.jetstream.ownstreams import AGAIN, GATHER, STREAMS
from runner.jetstream.publisher import PubAck
from runner.jetstream.schedules import fire
from runner.process.app import Serving, serve
from runner.process.function import Function
from runner.process.http import OverHttp, require
from runner.process.served import Served
from runner.runtime.stop import Stop
from runner.streams.plan import apply_streams
from runner.testing.children import given
from runner.testing.declared import GivenStreams, declared
from runner.testing.delivery import bound
from runner.testing.ending import Unsettled, ended, told
from runner.testing.project import project_of
from runner.testing.server import server

T = TypeVar("T")
DRAIN_SECONDS = 3600.0
"""Long enough never to count: the end of a test has time limits of its own."""
LOOK_SECONDS = 0.02


class Output(Struct, frozen=True):
    """A message as a stream holds it."""

    subject: str
    body: bytes
    headers: dict[str, str]
    stream: str
    sequence: int

    @overload
    def decode(self) -> Any: ...
    @overload
    def decode(self, kind: type[T]) -> T: ...
    def decode(self, kind: Any = Any) -> Any:
        """Decode the body to plain values, or to this type. Raises DecodeError."""
        msgpack = any(
            name.lower() == "content-type" and value == MSGPACK for name, value in self.headers.items()
        )
        return codec.decoder(kind)(self.body, msgpack)


class App:
    """Running functions, and the server that they run on."""

    def __init__(
        self,
        connected: client.App,
        project: str,
        functions: Sequence[Served],
        serving: asyncio.Task[None],
        http: str = "",
    ) -> None:
        self.publish, self.request = connected.publish, connected.request
        """The methods of the connection, as those of `runner.connect()`."""
        self._connection = connected.connection
        self._project = project
        self._functions = functions
        self._serving = serving
        self.url = self._connection.url
        """The URL of the server, for other clients."""
        self.http = http
        """The URL at which functions with `@route` answer, as `http://127.0.0.1:40123`; empty if there are none."""

    async def fire(self, function: Callable[..., Any]) -> PubAck:
        """Fire a function with `@cron` now; its schedule does not run in tests. Raises UsageError where it has none."""
        binding = bound(function)
        if binding.schedule is None:
            raise UsageError(f"{binding.label} has no schedule", hint="publish what it reads: app.publish(…)")
        return await fire(self._connection, self._project, binding.function)

    async def settled(self, within: float = 30.0) -> None:
        """Return once no message waits, is in work, waits for a retry or is delayed, and no event waits for its parts.

        Raises `Unsettled` after `within` seconds, with a list of the open work; and the error of the functions, if they have ended.
        """
        open_ones: list[str] = []
        try:
            async with asyncio.timeout(within):
                while open_ones := await self._open():
                    await asyncio.sleep(LOOK_SECONDS)
        except TimeoutError:
            listed_ones = "\n".join(f"  {each}" for each in open_ones or ["the server does not answer"])
            raise Unsettled(f"still open after {within:g} s:\n{listed_ones}") from None

    async def outputs(self, subject: str) -> list[Output]:
        """The stored messages of a subject, which may have wildcards, oldest first; none if no stream captures it."""
        found: list[Output] = []
        for name, config in (await real_streams(self._connection)).items():
            if name in STREAMS or not any(overlaps(each, subject) for each in config.get("subjects") or ()):
                continue
            patterns = sharding.filters(subject) if sharding.read(config) else [subject]
            here = [each for pattern in patterns async for each in self._under(name, pattern)]
            found += sorted(here, key=lambda each: each.sequence)
        return found

    async def _under(self, stream: str, pattern: str) -> AsyncIterator[Output]:
        """The messages that a stream has stored under a subject; each `Output` has the subject that it was published to."""
        sequence = 1
        while stored := await leader_message(
            self._connection, stream, {"seq": sequence, "next_by_subj": pattern}
        ):
            pairs = header.pairs(stored.header) if stored.header else ()
            subject = sharding.original(stored.subject)
            yield Output(subject, stored.body, dict(pairs), stream, stored.sequence)
            sequence = stored.sequence + 1

    async def dead_letters(self, function: str = "") -> list[DeadLetter]:
        """The dead letters of one function, or of all, oldest first.

        Each has `reason`, `error`, `message`, `subject`, `body`, `attempts`, … Raises UsageError for a function that does not run.
        """
        names = sorted(each.binding.function for each in self._functions)
        if function and function not in names:
            raise UsageError(f"no function {function!r} runs here", hint=f"these do: {', '.join(names)}")
        browsed = DeadLetters(self._connection).browse(Selection(project=self._project, function=function))
        return [stored.letter async for stored in browsed]

    async def _open(self) -> list[str]:
        """The open work, a line each."""
        if self._serving.done():
            await self._serving
            raise Unsettled("the functions have ended")
        before = await self._stored()
        found = [why for function in self._functions if (why := waits(function))]
        for stream in before:
            found += [
                why
                for info in await consumers_on(self._connection, stream)
                if (why := await self._behind(stream, info))
            ]
        if delayed := await count(self._connection, AGAIN, f"$JETRUNNER.delayed.{self._project}.>"):
            found.append(f"{delayed} delayed")
        found += [each async for each in self._gathering()]
        if not found and await self._stored() != before:
            found.append("a message that was stored a moment ago")
        return found

    async def _gathering(self) -> AsyncIterator[str]:
        """Events that are not joined yet, a line each."""
        store = Gathered(self._connection)
        for binding in [each.binding for each in self._functions if each.binding.joins is not None]:
            name = binding.function
            pattern = SplitEvent(self._project, name, "*").subject
            async for subject, _ in subjects(self._connection, GATHER, f"{pattern}.state"):
                record, _ = await store.read(SplitEvent(self._project, name, subject.split(".")[-2]))
                if not (record.done or record.given_up):
                    yield f"{name}: {len(record.present)} of {record.count if record.count >= 0 else '?'} parts of an event"

    async def _stored(self) -> dict[str, int]:
        """The newest sequence of each stream. Buckets are left out: the runner writes to its own all the time."""
        infos = (await listed(self._connection, "STREAM.LIST", "streams")).whole()
        return {name: info["state"]["last_seq"] for name, info in infos.items() if not name.startswith("KV_")}

    async def _behind(self, stream: str, info: Mapping[str, Any]) -> str:
        name = function_of(info["name"], self._project) or info["name"]
        waiting, running = info["num_pending"], info["num_ack_pending"]
        if waiting or running:
            return f"{name}: {waiting} waiting, {running} in work or waiting for a retry, in {stream}"
        config = info["config"]
        filters = config.get("filter_subjects") or [config.get("filter_subject") or ">"]
        for each in filters:  # the server counts a message a moment after it has confirmed it
            newest = await leader_message(self._connection, stream, {"last_by_subj": each})
            if newest is not None and newest.sequence > info["delivered"]["stream_seq"]:
                return f"{name}: 1 waiting in {stream}"
        return ""


def waits(function: Served) -> str:
    """Why a function does not do all of its work; empty if it does."""
    if function.blocked:
        return f"{function.binding.function}: {function.blocked}"
    if function.binding.answers is not None and function.unsettled:
        return f"{function.binding.function}: {counted(function.unsettled, 'request')} not answered"
    if isinstance(function, Function) and (shards := function.shards) is not None:
        total = shards.open_generation.count if shards.open_generation is not None else 1
        if (here := shards.working) < total:
            return f"{function.binding.function}: owns {here} of {total} shards"
    return ""


@asynccontextmanager
async def run(
    *functions: Callable[..., Any],
    streams: GivenStreams = None,
    retry_scale: float = 0.01,
    url: str | None = None,
    around: Sequence[Callable[..., Any]] = (),
    expires_scale: float = 1.0,
    processes: bool = True,
    routes: Sequence[Route] = (),
) -> AsyncIterator[App]:
    """Run functions for the time of the block, in this process, on a nats-server that starts and ends with it.

    `functions` are decorated ones as they are imported; a `@lifespan` and hooks (`@around`) may be among them. Without any, all
    functions of the current folder's project run. Hooks of their modules with `scope="module"` run around them, and the hooks in
    `around`. `streams` are declared before: by default those of the project's `streams/`, and one called TEST for subjects that none
    of them captures. Waits between attempts are multiplied by `retry_scale`, and `expires` of gathers by `expires_scale`. `url` is
    the server to use in place of an own one: what it stores stays. Functions with `@route` answer at `app.http`, and so do `routes`.
    Functions with `executor="process"` run in child processes, which import the module of the test. With `processes=False`, or if
    they are written inside another function, they run in the process of the test.

    A handler that still runs 2 s after the block is cancelled. `Unsettled` tells of it; if the block has raised, a note on its error.
    Raises JetrunnerError as `runner run` does.
    """
    root = devserver.find_root(Path())
    project = project_of(root, functions, around)
    children = None
    if processes and any(each.in_process for each in project.functions):
        children = given(project.root, functions, around)
    bindings = tuple(
        structs.replace(
            binding,
            retry=binding.retry.scaled(retry_scale),
            in_process=binding.in_process and children is not None,
            joins=binding.joins and binding.joins.scaled(expires_scale),
        )
        for binding in project.functions
    )
    wanted = declared(root, streams, bindings)
    async with AsyncExitStack() as stack:
        settings = Settings(
            name=project.name,
            nats_url=url or stack.enter_context(server()),
            drain_timeout=DRAIN_SECONDS,
        )
        stack.enter_context(client.working_with(settings))
        connected = await stack.enter_async_context(client.connect(settings=settings))
        await apply_streams(connected.connection, wanted, project.name)
        stop = Stop()
        ready: asyncio.Future[Sequence[Served]] = asyncio.get_running_loop().create_future()
        http = _http(bindings, routes)
        serving = asyncio.create_task(
            serve(
                Serving(
                    project=project,
                    settings=settings,
                    functions=bindings,
                    stop=stop,
                    supervised=True,
                    schedules="none",
                    ready=ready.set_result,
                    given=children,
                    http=http,
                )
            )
        )
        try:
            waits_for: set[asyncio.Future[Any]] = {serving, ready}
            await asyncio.wait(waits_for, return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                await serving
            here = f"http://127.0.0.1:{http.listening.getsockname()[1]}" if http is not None else ""
            yield App(connected, project.name, await ready, serving, here)
        except BaseException as error:
            if left := await ended(serving, stop, ready.result() if ready.done() else ()):
                error.add_note(told(left))
            raise
        else:
            if left := await ended(serving, stop, ready.result()):
                raise Unsettled(told(left))


def _http(bindings: Sequence[Binding], routes: Sequence[Route]) -> OverHttp | None:
    """The socket and the routes that are served over HTTP; None if no function has `@route`, and no routes are given."""
    if not routes and not any(each.route is not None for each in bindings):
        return None
    require()
    return OverHttp(listening=bound_socket("127.0.0.1:0"), routes=routes)
