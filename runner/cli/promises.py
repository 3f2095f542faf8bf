"""Says in words what is promised for a function that answers requests, over NATS or HTTP, and why."""

from __future__ import annotations

from msgspec import Struct

from runner.bindings import Binding
from runner.core import admission
from runner.core.quantity import counted


class Promise(Struct, frozen=True):
    """One thing that is promised for a function."""

    about: str
    """The topic, in a word or two."""
    promise: str
    why: str


def explained(binding: Binding) -> list[Promise]:
    """Everything that is promised for a function that answers requests over NATS."""
    assert binding.answers is not None
    threaded = binding.kind.startswith("thread")
    return [
        Promise(
            "source",
            f"every request to {binding.subject.text}, each to one of the instances that run",
            "a queue group of NATS; any client can ask. No stream stores a request: what nobody waits for any more is gone",
        ),
        Promise(
            "once",
            "each instance that takes a request runs it once; whether it is asked again is the asker's to decide",
            "an answer with Jetrunner-Not-Started tells that the handler has not begun: it is safe to ask again. "
            + (
                "idempotent=True says that it is safe after every other failure, too"
                if binding.answers.idempotent
                else "After any other failure it may have run, and idempotent=True is not given"
            ),
        ),
        Promise(
            "overload",
            f"up to {counted(binding.concurrency, 'call')} at a time in each process; as many more wait as it completes in "
            f"{admission.SECONDS * 1_000:.0f} ms, and the rest is refused at once (429)",
            f"a request that waits longer would be answered too late; before anything was measured, {admission.FIRST:,} wait",
        ),
        Promise(
            "deadline",
            f"an asker waits {binding.timeout:g} s at most, and less where it says so",
            "Jetrunner-Deadline tells how many milliseconds are left to it: what has not begun by then does not begin (408). "
            + (
                "Python cannot end a thread: its asker is answered in time, and the thread runs on"
                if threaded
                else "What runs then is cancelled"
            ),
        ),
        Promise(
            "stop",
            "a stopped instance (SIGTERM) answers every request that has reached it; a killed one answers none",
            "it leaves the queue group first, and asks the server whether anything was on its way",
        ),
        Promise(
            "outputs",
            "what it publishes is stored before it answers, and not at all when it fails",
            "a request has no identity in a stream: one that runs twice publishes twice",
        ),
    ]


def of_route(binding: Binding) -> list[Promise]:
    """Everything that is promised for a function that answers HTTP requests."""
    assert binding.route is not None
    streams = binding.kind.endswith("generator") and binding.output is None
    return [
        Promise(
            "source",
            f"every request {binding.route.text}, in the gateway that has accepted it",
            "it runs in the gateway's own process (runner gateway, runner run --http, runner dev): no hop over NATS, and nobody else "
            "can be asked",
        ),
        Promise(
            "response",
            "server-sent events, each as soon as the generator yields it"
            if streams
            else f"202 once a stream has what it returned, under {binding.output.text}"
            if binding.output is not None
            else "what it returned (200; 204 for None)",
            "what goes wrong inside is for the log: the client gets a problem (RFC 9457) without its words. Reject is 422, Retry 503 "
            "with Retry-After, a body that does not decode 400, a token or query parameter 422",
        ),
        Promise(
            "once",
            "each request runs once; whether it is sent again is the client's to decide",
            "an Idempotency-Key makes what it stores the same message: sent again within the stream's duplicate_window, it is stored "
            "once. It is no promise for what the handler does elsewhere",
        ),
        Promise(
            "overload",
            f"up to {counted(binding.concurrency, 'call')} at a time in each process; as many more wait as it completes in "
            f"{admission.SECONDS * 1_000:.0f} ms, and the rest is refused at once (429 with Retry-After)",
            f"a request that waits longer would be answered too late; before anything was measured, {admission.FIRST:,} wait",
        ),
        Promise(
            "time",
            f"the next event comes within {binding.timeout:g} s"
            if streams
            else f"a client waits {binding.timeout:g} s at most (504)",
            "Python cannot end a thread: its client is answered in time, and the thread runs on"
            if binding.kind.startswith("thread")
            else "what runs then is cancelled",
        ),
        Promise(
            "stop",
            "a stopped gateway (SIGTERM) answers every request that it has accepted; a killed one answers none",
            "it closes its listening socket first, and tells clients on kept connections to close them",
        ),
        Promise(
            "outputs",
            "what it publishes is stored before the response, and not at all when it fails",
            "the response tells that it is stored: a client that has got one need not ask again",
        ),
    ]
