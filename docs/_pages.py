"""The list of all pages: the site's navigation and `llms.txt` are made from it. `just docs` writes the latter."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

ROOT = Path(__file__).parents[1]
LLMS = ROOT / "llms.txt"
SUMMARY = """# Jetrunner

> Serverless-style functions on NATS JetStream, in Python: a decorated function is fed with every message of a subject, with durable retries,
> dead letters, outputs that are stored once, strict order per key where it is asked for, and one OpenTelemetry trace a message.

Distribution `jetrunner`, import package `runner`, command `runner`. Python 3.11 or newer, nats-server 2.12 or newer. A project is a folder with a
package `functions/`, a folder `streams/` and a `pyproject.toml`. The code of each page is executed by the tests.
"""


class Page(Struct, frozen=True):
    """One page."""

    file: str
    """From the root of the repository."""
    about: str
    """What a reader finds there, for `llms.txt`."""

    @property
    def title(self) -> str:
        """Its first heading."""
        return (ROOT / self.file).read_text().partition("\n")[0].removeprefix("# ")


SECTIONS: dict[str, tuple[Page, ...]] = {
    "Start": (
        Page("README.md", "what it is, an example, a demo on real data, the promises"),
        Page("docs/tutorial.md", "from an empty folder to a function that survives what usually goes wrong"),
    ),
    "How to": (
        Page("docs/howto/README.md", "all how-to pages"),
        Page("docs/howto/idempotency.md", "`ctx.message_id` as a key in a database, over HTTP, and `Nats-Msg-Id`"),
        Page("docs/howto/ordering.md", "choose a key, the number of shards, and what a failure does"),
        Page("docs/howto/batches.md", "size and wait, what has failed, outputs, order in batches"),
        Page("docs/howto/deploys.md", "rolling deploys, changes of messages and functions, the way back"),
        Page("docs/howto/poison.md", "final failures, dead letters, redrive and drop"),
        Page("docs/howto/message.md", "`runner message show`: the state of a message in each function, its errors, its outputs; and `runner trace`"),
        Page("docs/howto/splitting.md", "`@gather`: a generator splits, functions work on the parts, one call joins them"),
        Page("docs/howto/processes.md", '`executor="process"`: handlers that compute, on all cores'),
        Page("docs/howto/schedules.md", "functions that fire by a schedule: time zones, overlaps, missed firings, changes"),
        Page("docs/howto/requests.md", "`@reply`: functions that answer requests; who of several is asked, and what follows when one fails"),
        Page("docs/howto/http.md", "`@route`: functions that answer HTTP, in the gateway; server-sent events, keys that make a request safe to repeat"),
        Page("docs/howto/ingress.md", "functions behind an Ingress or an HTTPRoute of Kubernetes, as it stands"),
        Page("docs/howto/hooks.md", "`@around`: timing, a tenant, a circuit breaker, around every attempt of every function"),
        Page("docs/howto/doctor.md", "`runner doctor`: what will hurt on the server, and its remedy"),
        Page("docs/howto/testing.md", "unit tests with `runner.testing.context`, checks, a real server"),
        Page("docs/howto/celery.md", "each Celery option and what stands in its place"),
        Page("docs/howto/faststream.md", "each FastStream option and what stands in its place"),
        Page("docs/howto/nats-py.md", "a pull loop as a function that goes on where the loop was"),
    ),
    "Reference": (
        Page("docs/reference/handlers.md", "`@consume`, `@reply`, `@route`, `@cron`, parameters, outcomes, `RetryPolicy`, `Context`, `@lifespan`, `@around`, `connect`"),
        Page("docs/reference/streams.md", "`streams/*.toml`, shards, parked keys, plan and apply"),
        Page("docs/reference/commands.md", "every command with its options, as `--help` prints it"),
        Page("docs/reference/settings.md", "`[tool.jetrunner]`, environment variables, redaction, exit codes"),
        Page("docs/reference/routes.md", "routes of the HTTP edge: declared ones, Ingress and HTTPRoute manifests, which is taken, who may ask, other origins"),
        Page("docs/reference/hostile.md", "smuggling, slow and oversized clients, injection: what each gets"),
        Page("docs/reference/tracing.md", "spans, sampling, OTLP"),
        Page("docs/reference/metrics.md", "`/livez`, `/readyz` and `/metrics`"),
    ),
    "Understand": (
        Page("docs/guarantees.md", "each promise, how it is kept, what is not promised, and its tests"),
        Page("docs/security.md", "who may do what in NATS, and the least permissions"),
        Page("docs/performance.md", "rates, CPU and latency beside other clients, with the conditions"),
        Page("docs/balancing.md", "what each way to choose an instance, ejection and retries are good for, in a simulation"),
        Page("docs/architecture.md", "the map of the code, a message's way file by file, the life of a shard, a glossary"),
    ),
    "Decisions": (
        Page("docs/decisions/README.md", "all decision records"),
        Page("docs/decisions/0001-nats-py-below-our-own-wire.md", "why frames are read and written by our own code"),
        Page("docs/decisions/0002-core-is-pure.md", "why decisions take time and luck as arguments"),
        Page("docs/decisions/0003-no-cap-on-outstanding-acks.md", "why our window is the limit, not the server's"),
        Page("docs/decisions/0004-the-runner-gives-up.md", "why no durable has a limit of deliveries"),
        Page("docs/decisions/0005-suspects.md", "how the message that kills its process is found"),
        Page("docs/decisions/0006-outputs-before-acks.md", "what comes first, and what a crash in between does"),
        Page("docs/decisions/0007-again.md", "how a dead letter goes back to one function"),
        Page("docs/decisions/0008-a-gate-before-the-sdk.md", "which messages are traced, and what that costs"),
        Page("docs/decisions/0009-real-servers-in-tests.md", "why nothing of NATS is mocked"),
        Page("docs/decisions/0010-settlements-on-record.md", "when the next message of a key may start"),
        Page("docs/decisions/0011-dead-or-out-of-reach.md", "replaced by 12"),
        Page("docs/decisions/0012-who-may-start.md", "leases, pings and claims"),
        Page("docs/decisions/0013-known-deaths.md", "which deaths count against a message"),
        Page("docs/decisions/0014-histories.md", "streams that go back to an older copy"),
    ),
    "Project": (
        Page("CONTRIBUTING.md", "how to set up, check and test; what is asked of a change"),
        Page("CHANGELOG.md", "what a user notices, by release"),
    ),
}  # fmt: skip


def llms() -> str:
    """`llms.txt`: all pages with a line each, for programs that read documentation."""
    parts = [SUMMARY]
    for section, pages in SECTIONS.items():
        lines = "\n".join(f"- [{page.title}]({page.file}): {page.about}" for page in pages)
        parts.append(f"\n## {section}\n\n{lines}\n")
    return "".join(parts)


if __name__ == "__main__":
    LLMS.write_text(llms())
