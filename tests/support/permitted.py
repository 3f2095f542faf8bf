"""A project whose users may do no more than `runner permissions` prints: what it does there, and the first thing that fails."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, TypeAlias

import anyio
from nats.errors import Error as NatsError

from runner import connect
from runner.config import Settings
from runner.errors import JetrunnerError
from tests.support.forked import Command, Forks
from tests.support.jetstream import ApiError, RawJetStream
from tests.support.project import Project
from tests.support.server import NatsServer

Role: TypeAlias = Literal["run", "publish", "operate"]
Claims: TypeAlias = dict[str, list[str]]
"""What a user may, by "publish" and "subscribe"."""
LOOK_SECONDS = 0.05
ROLES: tuple[Role, ...] = ("run", "publish", "operate")

FUNCTIONS = """
from msgspec import Struct
from runner import Context, Reject, Retry, consume, cron, reply

class Posting(Struct):
    cents: int

class Reminder(Struct):
    text: str

@consume("ledger.{account}.posted", output="balances.{account}", ordered_by="account", on_exhausted="park")
async def post(posting: Posting, ctx: Context) -> Posting:
    if posting.cents < 0:
        raise Reject("less than nothing")
    if ctx.attempt == 1:
        raise Retry("once more", after=0.01)
    return posting

@consume("reminders.{who}", output="notes.{who}", max_age=60.0)
async def remind(reminder: Reminder, who: str, ctx: Context) -> Reminder:
    if ctx.attempt == 1:
        raise Retry("once more", after=0.01)
    if reminder.text == "later":
        await ctx.publish(f"reminders.{who}", Reminder("now"), delay=0.2)
    return reminder
"""
ANSWERING = """
@reply("quotes.{who}")
async def quote(who: str) -> str:
    return who
"""
SCHEDULED = """
@cron("0 0 1 1 *", output="beats.new")
async def beat(ctx: Context) -> str:
    if "Odd" in ctx.headers:
        raise Reject("odd")
    return "beat"
"""
TICK, SCHEDULE = "$JETRUNNER.tick.shop.beat", "$JETRUNNER.cron.shop.beat"
NARROWER = (
    FUNCTIONS.replace('"reminders.{who}", output', '"reminders.ada", output')
    .replace('"notes.{who}"', '"notes.ada"')
    .replace(", who: str", "")
    .replace("{who}", "ada")
)
"""The next version; it has no schedule any more."""
FUNCTIONS += SCHEDULED + ANSWERING
STREAMS = {
    "ledger": 'name = "LEDGER"\nsubjects = ["ledger.{account}.*"]\n[shards]\ncount = 2\nby = ["account"]\n',
    "balances": 'name = "BALANCES"\nsubjects = ["balances.*"]\n',
    "reminders": 'name = "REMINDERS"\nsubjects = ["reminders.*"]\n',
    "beats": 'name = "BEATS"\nsubjects = ["beats.*"]\n',
    "notes": 'name = "NOTES"\nsubjects = ["notes.*"]\n',
}

DESCRIBED = {
    name: f'description = "{name}"\n{text}'.replace("count = 2", "count = 3")
    for name, text in STREAMS.items()
}


class Broken(Exception):  # noqa: N818 - what a test looks for
    """Something did not do what it does with all permissions."""


def users(account: str, claims: Mapping[Role, Claims]) -> str:
    """An account of its own, in the server's configuration: a user for each role, and one that may everything."""
    # An empty list would allow everything.
    lists = {
        role: {side: subjects or ["nothing.at.all"] for side, subjects in claims[role].items()}
        for role in ROLES
    }
    told = "".join(
        f'      {{ user: "{account}-{role}", password: "{role}", permissions: {json.dumps(lists[role])} }}\n'
        for role in ROLES
    )
    return (
        f"  {account} {{\n    jetstream: enabled\n    users: [\n{told}"
        f'      {{ user: "{account}-all", password: "all" }}\n    ]\n  }}\n'
    )


class Life:
    """One account, and the project in it."""

    def __init__(
        self,
        forks: Forks,
        server: NatsServer,
        account: str,
        project: Project,
        later: Project | None = None,
        *,
        patience: float = 1.0,
    ) -> None:
        self._forks = forks
        self._server = server
        self._account = account
        self._project = project
        self.patience = patience
        self._later = later
        """The project's next version."""
        self.running: list[Command] = []

    def url(self, role: str) -> str:
        """As a user of the account."""
        return self._server.url_as(f"{self._account}-{role}", role)

    def start(self, role: Role, *arguments: str) -> Command:
        """Start a command as that user."""
        project = self._project
        return self._forks.start(project.root, project.environment | {"NATS_URL": self.url(role)}, *arguments)

    async def do(self, role: Role, *arguments: str, within: float = 8.0) -> str:
        """Run a command to its end; its data. Broken when it fails."""
        command = self.start(role, *arguments)
        await self.until(" ".join(arguments[:2]), lambda: command.code is not None, within)
        if command.code != 0:
            raise Broken(f"{' '.join(arguments[:3])}: exit {command.code}: {command.said[-300:]}")
        return command.data

    async def publish(self, *messages: tuple[str, object], delay: float | None = None) -> None:
        """Publish as an application does. Broken when that fails."""
        try:
            async with connect(
                settings=Settings(name=self._project.name, nats_url=self.url("publish"))
            ) as app:
                for subject, body in messages:
                    await app.publish(subject, body, delay=delay)
        except JetrunnerError as error:
            raise Broken(f"publishing: {error}") from None

    async def instance(self) -> Command:
        """A `runner run` that is ready."""
        command = self.start("run", "run")
        self.running.append(command)
        await self.until("run", lambda: "ready: " in command.said or command.code is not None, 8.0)
        if command.code is not None:
            raise Broken(f"run: exit {command.code}: {command.said[-300:]}")
        return command

    async def until(self, what: str, holds: Callable[[], Awaitable[Any] | bool], within: float = 4.0) -> None:
        """Wait for it. Broken when it does not come; many of these wait at once, so none looks often."""
        deadline = anyio.current_time() + within * self.patience
        while True:
            try:
                found = holds()
                if found if isinstance(found, bool) else await found:
                    return
            except ApiError:  # no stream of that name yet
                pass
            if anyio.current_time() > deadline:
                raise Broken(f"{what}: not within {within:g} s")
            await anyio.sleep(LOOK_SECONDS)

    def deploy(self) -> None:
        """Go on with the next version, of which nothing runs yet."""
        assert self._later is not None
        self._project = self._later

    def end(self) -> None:
        """Kill what still runs."""
        for command in self.running:
            command.kill()


async def live(life: Life, raw: RawJetStream) -> None:
    """Everything the project does in a day; `raw` may look at all of it. Broken at the first thing that fails."""
    await life.do("operate", "apply")
    news = await raw.client.subscribe("jetrunner.services")
    first = await life.instance()
    await _asked(life, raw, news)
    await _unordered(life, raw)
    await _story(life, "REMINDERS", "NOTES", attempts=2)
    await _parked(life, raw, first)
    await _story(life, "LEDGER", "BALANCES", attempts=2, sequence=3)
    await _failover(life, raw, first)
    await _fired(life, raw)
    await _resize(life, raw)
    for each in ("again", "due", "delayed"):
        await life.until(
            f"{each}: what was sent back, or was due, is removed",
            partial(_none, raw, "JETRUNNER", f"$JETRUNNER.{each}.>"),
            12.0,
        )
    await life.until("what was due is settled", lambda: raw.settled("JETRUNNER", "shop--relay"))
    for kind in ("start", "error"):
        await life.until(
            f"nothing is left of {kind}", partial(_none, raw, "KV_jetrunner", f"$KV.jetrunner.{kind}.>")
        )
    await _deploy(life, raw)


async def _asked(life: Life, raw: RawJetStream, news: Any) -> None:
    """Requests to all instances and to one, and what that tells of itself."""
    patience = 4.0 * life.patience
    try:
        instance = json.loads((await news.next_msg(patience)).data)["id"]
        async with connect(settings=Settings(name="shop", nats_url=life.url("publish"))) as app:
            await app.request("quotes.ada", b"", returns=str, timeout=patience)
        own = [f"jetrunner.shop.at.{instance}.quotes.ada"]
        for verb in ("PING", "INFO", "STATS"):
            own += [f"$SRV.{verb}", f"$SRV.{verb}.shop", f"$SRV.{verb}.shop.{instance}"]
        for subject in own:
            await raw.client.request(subject, b"", timeout=patience)
    except (NatsError, JetrunnerError, TimeoutError) as error:
        raise Broken(f"requests: {error!r}") from None


async def _unordered(life: Life, raw: RawJetStream) -> None:
    """Outputs, retries, delayed messages, dead letters, and one that is sent back."""
    await life.do("publish", "publish", "reminders.ada", json.dumps({"text": "later"}))
    await life.until("outputs, and a delayed message", lambda: _has(raw, "NOTES", 2))
    await life.publish(("reminders.ada", {"text": "at last"}), delay=0.05)
    await life.until("a delayed message of a publisher", lambda: _has(raw, "NOTES", 3))
    await life.publish(("reminders.ada", "no reminder"))
    await life.until("a dead letter", lambda: _has(raw, "DEADLETTERS", 1))
    await life.until("messages are settled", lambda: raw.settled("REMINDERS", "shop-remind"))
    await life.do("operate", "deadletter", "list")
    await life.do("operate", "deadletter", "show", "1")
    await life.do("operate", "deadletter", "redrive", "--all")
    await life.until("it dies again", lambda: _last(raw, "DEADLETTERS", 2))
    await life.until("it has left the dead letters", lambda: _count(raw, "DEADLETTERS", 1))
    await life.do("operate", "deadletter", "drop", "--all", "--yes")
    await life.until("dead letters are dropped", lambda: _count(raw, "DEADLETTERS", 0))


async def _story(life: Life, stream: str, output: str, *, attempts: int, sequence: int = 1) -> None:
    """What became of a message that has failed once, and of what was made of it."""
    told = json.loads(await life.do("operate", "message", "show", f"{stream}:{sequence}", "--output", "json"))
    (function,) = told["functions"]
    if function["state"] != "done" or (function["error"] or {}).get("attempt") != attempts - 1:
        raise Broken(f"message show tells {function}")
    made = [each for each in function["outputs"] if each["message_id"].startswith(f"{output}:")]
    if not made or made[0]["message"] is None:
        raise Broken(f"message show tells of no output: {function}")


async def _parked(life: Life, raw: RawJetStream, first: Command) -> None:
    """A key that waits, is brought back, waits again, and goes on without its head."""
    ada = "ledger.ada.posted"
    await life.publish((ada, {"cents": -1}), (ada, {"cents": 2}), ("ledger.ben.posted", {"cents": 3}))
    await life.until("another key", lambda: _has(raw, "BALANCES", 1, "balances.>"))
    await life.until("a parked message", lambda: _count(raw, "PARKED", 1))
    await life.do("operate", "parked", "retry", "ada")
    await life.until("it is parked again", lambda: "key ada is parked again" in first.said)
    await life.until("the dead letter of before is removed", lambda: _count(raw, "DEADLETTERS", 1))
    listed = json.loads(await life.do("operate", "parked", "list", "--output", "json"))
    if [each["parked"] for each in listed] != [1]:
        raise Broken(f"parked list shows {listed}")
    await life.do("operate", "parked", "skip", "ada")
    await life.until("what was parked", lambda: _has(raw, "BALANCES", 2, "balances.>"))
    await life.until("parked messages are removed", lambda: _count(raw, "PARKED", 0))
    await life.until("its dead letters are removed", lambda: _count(raw, "DEADLETTERS", 0))

    async def known() -> bool:  # one that stands still does not answer in time
        status = json.loads(await life.do("operate", "status", "--output", "json"))
        instances = {each["function"]: len(each["instances"]) for each in status["functions"]}
        return instances == dict.fromkeys(instances, 1) and instances.keys() >= {"post", "remind"}

    await life.until("status knows of each function", known)


async def _failover(life: Life, raw: RawJetStream, first: Command) -> None:
    """The shards of an instance that is killed go on elsewhere, before its lease has run out."""
    second = await life.instance()
    await life.until("both own shards", lambda: _owners(raw, 2))
    await life.do("operate", "shard", "list")
    if any("its connection is gone" in each.said for each in (first, second)):
        raise Broken("an instance was taken for dead that lives")
    for turn in range(1, 4):  # where all stand still for so long, a lease runs out, and not three
        first.kill()
        await life.publish(*((f"ledger.k{number}.posted", {"cents": 1}) for number in range(4)))
        await life.until("failover", lambda least=2 + 4 * turn: _has(raw, "BALANCES", least, "balances.>"))  # type: ignore[misc]
        if "its connection is gone" in second.said:
            return
        first, second = second, await life.instance()
        await life.until("both own shards", lambda: _owners(raw, 2))
    raise Broken("nothing proved that the instance was dead: its lease had to run out")


async def _resize(life: Life, raw: RawJetStream) -> None:
    await life.do("operate", "shard", "resize", "LEDGER", "3", within=60)
    await life.publish(("ledger.ada.posted", {"cents": 1}))
    await life.until("the new shards", lambda: _has(raw, "BALANCES", 7, "balances.>"))

    async def drained() -> bool:
        return not any(name.startswith("shop-post-1-") for name in await raw.consumers("LEDGER"))

    await life.until("durables of the old shards are deleted", drained)


async def _fired(life: Life, raw: RawJetStream) -> None:
    """A firing by hand, one as the server makes it, and one that is a dead letter, is sent back and dies again."""
    listed = json.loads(await life.do("operate", "schedule", "list", "--output", "json"))
    if [each["state"] for each in listed["schedules"]] != ["stands"]:
        raise Broken(f"schedule list shows {listed}")
    await life.do("operate", "schedule", "fire", "beat")
    await life.until("a firing", lambda: _has(raw, "BEATS", 1))
    await raw.publish(SCHEDULE, b"", {"Nats-Schedule": "@every 1s", "Nats-Schedule-Target": TICK})
    await life.until("a firing of the server's", lambda: _has(raw, "BEATS", 2))
    await life.do("operate", "apply")
    last = (await raw.stream("DEADLETTERS"))["state"]["last_seq"]
    await raw.publish(TICK, b"", {"Odd": "1"})
    await life.until("a firing is a dead letter", lambda: _last(raw, "DEADLETTERS", last + 1))
    await life.do("operate", "deadletter", "redrive", "--function", "beat")
    await life.until("a firing dies again", lambda: _last(raw, "DEADLETTERS", last + 2))
    await life.until("its dead letter of before is removed", lambda: _count(raw, "DEADLETTERS", 1))
    await life.do("operate", "deadletter", "drop", "--all", "--yes")


async def _deploy(life: Life, raw: RawJetStream) -> None:
    """Messages that come while nothing runs, and a version whose function reads less, beside one of before."""
    for command in life.running:
        command.kill()
    await raw.api("CONSUMER.DELETE.REMINDERS.shop-remind")
    await raw.api("STREAM.PURGE.JETRUNNER", {"filter": SCHEDULE})
    await life.publish(("reminders.ada", {"text": "while nothing ran"}))
    await life.publish(("reminders.ada", {"text": "was due while nothing ran"}), delay=0.01)
    await life.until("it is due", lambda: _has(raw, "JETRUNNER", 1, "$JETRUNNER.due.shop"))
    await life.instance()
    if not (await raw.consumer("REMINDERS", "shop-remind"))["config"].get("opt_start_seq"):
        raise Broken("a durable that somebody has deleted begins anew")
    await life.until("a schedule that somebody has removed", lambda: _has(raw, "JETRUNNER", 1, SCHEDULE))
    await life.until("what came meanwhile", lambda: _has(raw, "NOTES", 5))
    life.deploy()
    await life.do("operate", "apply")
    if await _has(raw, "JETRUNNER", 1, SCHEDULE):
        raise Broken("the schedule of a function that is gone was not removed")
    newer = life.start("run", "run", "--only", "remind")
    life.running.append(newer)
    await life.until(
        "it waits for the version of before", lambda: "takes no messages now: instance" in newer.said
    )


async def _owners(raw: RawJetStream, count: int) -> bool:
    claims = [each.json() for each in await raw.messages("KV_jetrunner", "$KV.jetrunner.claim.shop.>")]
    return len({claim["owner"] for claim in claims} - {""}) == count


async def _has(raw: RawJetStream, stream: str, least: int, subject: str | None = None) -> bool:
    info = await raw.stream(stream, subjects_filter=subject or ">")
    return bool(sum((info["state"].get("subjects") or {}).values()) >= least)


async def _count(raw: RawJetStream, stream: str, count: int) -> bool:
    return await raw.count(stream) == count


async def _none(raw: RawJetStream, stream: str, subject: str) -> bool:
    return not await _has(raw, stream, 1, subject)


async def _last(raw: RawJetStream, stream: str, least: int) -> bool:
    return int((await raw.stream(stream))["state"]["last_seq"]) >= least


def printed(
    project: Project,
    publishes: Mapping[Role, Sequence[str]],
    requests: Mapping[Role, Sequence[str]] | None = None,
) -> dict[Role, Claims]:
    """What each role may, as the command prints it with these for `--publishes` and `--requests`."""
    found: dict[Role, Claims] = {}
    for role in ROLES:
        more = [word for each in publishes.get(role, ()) for word in ("--publishes", each)]
        more += [word for each in (requests or {}).get(role, ()) for word in ("--requests", each)]
        done = project.runner("permissions", "--form", "jwt", "--for", role, *more)
        assert done.code == 0, done.stderr
        claims = json.loads(done.stdout)["nats"]
        found[role] = {"publish": claims["pub"]["allow"], "subscribe": claims["sub"]["allow"]}
    return found
