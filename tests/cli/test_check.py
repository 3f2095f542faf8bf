"""`runner check`: everything that is wrong, before anything runs."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.support.jetstream import RawJetStream
from tests.support.project import Project
from tests.support.server import NatsServer

CHARGE = """
    from runner import consume

    @consume("orders.{customer}.created")
    async def charge(body: dict[str, int], customer: str) -> None: ...
"""
ORDERS = 'name = "ORDERS"\nsubjects = ["orders.{customer}.*"]\n'


def test_a_sound_project_is_well(make_project: Callable[..., Project]) -> None:
    project = make_project(functions={"charge": CHARGE}, streams={"orders": ORDERS})
    done = project.runner("check")
    assert (done.code, done.stdout) == (0, "shop: 1 function, 1 stream, all well\n")
    assert project.json("check") == {
        "ok": True,
        "project": "shop",
        "functions": ["charge"],
        "hooks": [],
        "streams": ["ORDERS"],
        "problems": [],
        "warnings": [],
    }


def test_an_import_error_names_file_and_line(make_project: Callable[..., Project]) -> None:
    done = make_project(functions={"charge": "\nimport nothing_of_this_name\n"}).runner("check")
    assert (done.code, done.stdout) == (2, "")
    assert "error: functions/charge.py:2: ModuleNotFoundError" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_syntax_error_names_file_and_line(make_project: Callable[..., Project]) -> None:
    done = make_project(functions={"charge": "x = = 1\n"}).runner("check")
    assert done.code == 2
    assert "error: functions/charge.py:1: SyntaxError" in done.stderr


def test_toml_with_a_typo_names_file_and_line(make_project: Callable[..., Project]) -> None:
    done = make_project(streams={"orders": 'name = "ORDERS\n'}).runner("check")
    assert done.code == 2
    assert "error: streams/orders.toml:1: not TOML" in done.stderr


def test_every_problem_is_told_at_once(make_project: Callable[..., Project]) -> None:
    project = make_project(functions={"charge": "x = = 1\n"}, streams={"orders": "name = 1\n"})
    done = project.runner("check", "--output", "json")
    assert done.code == 2
    document = json.loads(done.stdout)
    assert not document["ok"]
    assert [problem["message"].partition(":")[0] for problem in document["problems"]] == [
        "streams/orders.toml",
        "functions/charge.py",
    ]


def test_two_functions_that_read_the_same_of_a_work_queue_are_an_error(
    make_project: Callable[..., Project],
) -> None:
    project = make_project(
        functions={
            "charge": CHARGE,
            "other": CHARGE.replace("charge", "other").replace(".created", ".{what}"),
        },
        streams={"orders": ORDERS + 'retention = "workqueue"\n'},
    )
    done = project.runner("check")
    assert done.code == 2
    assert "functions/other.py:4: other reads messages that charge reads" in done.stderr
    assert "ORDERS is a work queue" in done.stderr
    assert "hint: give them subjects that do not overlap" in done.stderr


def test_a_subject_that_no_declared_stream_captures_is_an_error_with_a_hint(
    make_project: Callable[..., Project],
) -> None:
    done = make_project(functions={"charge": CHARGE}).runner("check")
    assert done.code == 2
    assert "charge: no stream captures orders.*.created" in done.stderr
    assert "hint: create streams/orders.toml" in done.stderr


def test_a_stream_of_somebody_else_is_left_to_the_server(make_project: Callable[..., Project]) -> None:
    source = CHARGE.replace('created")', 'created", stream="THEIRS")')
    done = make_project(functions={"charge": source}).runner("check")
    assert done.code == 0
    assert "warning: charge reads the stream THEIRS, which is not declared here" in done.stderr


def test_a_window_shorter_than_the_retries_is_warned_of(make_project: Callable[..., Project]) -> None:
    source = CHARGE.replace('created")', 'created", output="paid.{customer}")').replace("-> None", "-> int")
    paid = 'name = "PAID"\nsubjects = ["paid.*"]\nduplicate_window = "10s"\n'
    done = make_project(functions={"charge": source}, streams={"orders": ORDERS, "paid": paid}).runner(
        "check"
    )
    assert (done.code, done.stdout) == (0, "shop: 1 function, 2 streams, 1 warning\n")
    assert "warning: charge may retry for" in done.stderr
    assert "streams/paid.toml" in done.stderr


MEANT = """
    from collections.abc import AsyncIterator
    from typing import Any, NoReturn

    from runner import Context, consume

    def inner(body):
        return body

    @consume("orders.{a}.one", output="paid.{a}")
    async def both(body: bytes) -> bytes | None: ...

    @consume("orders.{a}.two", output="paid.{a}")
    async def unannotated(body: bytes):
        if body:
            return None
        return body

    @consume("orders.{a}.three", output="paid.{a}")
    async def split(body: bytes) -> AsyncIterator[bytes]:
        yield body

    @consume("orders.{a}.four")
    async def tail(body: bytes):
        return await inner(body)

    @consume("orders.{a}.five")
    def nested(body: bytes):
        def deeper():
            return 1
        return None

    @consume("orders.{a}.six", output="paid.{a}")
    def open_ended(body: bytes) -> Any: ...

    @consume("orders.{a}.seven", output="orders.{a}.eight")
    def step(body: bytes) -> bytes:
        return body
"""
ODD = """
    from collections.abc import Awaitable

    from runner import consume

    @consume("orders.{a}.one")
    async def dropped(body: bytes) -> bytes:
        return body

    @consume("orders.{a}.two")
    def dropped_unannotated(body: bytes):
        if body:
            return {"a": 1}

    @consume("orders.{a}.three", output="paid.{a}")
    async def empty(body: bytes) -> None: ...

    @consume("orders.{a}.four", output="paid.{a}")
    def empty_unannotated(body: bytes):
        print(body)

    @consume("orders.{a}.five", output="paid.{a}")
    def empty_later(body: bytes) -> Awaitable[None]: ...

    @consume("orders.{a}.six", output="orders.{a}.six")
    async def endless(body: bytes) -> bytes:
        return body

    @consume("orders.{a}.*", output="orders.{a}.seven", stream="ORDERS")
    async def endless_too(body: bytes) -> bytes:
        return body
"""
PAID = 'name = "PAID"\nsubjects = ["paid.*"]\nduplicate_window = "1h"\n'


def test_outcomes_that_nobody_can_have_meant_are_warned_of(make_project: Callable[..., Project]) -> None:
    streams = {"orders": ORDERS + 'duplicate_window = "1h"\n', "paid": PAID}
    assert make_project(functions={"shop": MEANT}, streams=streams).json("check")["warnings"] == []
    done = make_project(functions={"shop": ODD}, streams=streams).json("check")
    assert done["ok"]
    goes_nowhere = "returns a value, and has no output=: what it returns goes nowhere"
    forever = "for ever unless it returns None at some time"
    nothing = "has output='paid.{a}', and returns nothing: nothing is published there"
    assert done["warnings"] == [
        f"dropped {goes_nowhere}",
        f"dropped_unannotated {goes_nowhere}",
        f"empty {nothing}",
        f"empty_unannotated {nothing}",
        f"empty_later {nothing}",
        f"endless reads what it publishes: its output orders.{{a}}.six comes back to its subject orders.{{a}}.six, {forever}",
        f"endless_too reads what it publishes: its output orders.{{a}}.seven comes back to its subject orders.{{a}}.*, {forever}",
    ]


@pytest.mark.server
async def test_with_a_server_its_streams_count_too(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream
) -> None:
    project = make_project(functions={"charge": CHARGE})
    assert project.runner("check", "--nats-url", nats_server.url).code == 2
    await js.create("THEIRS", ["orders.>"])
    done = project.runner("check", "--nats-url", nats_server.url)
    assert (done.code, done.stderr) == (0, "")


@pytest.mark.server
async def test_with_a_server_an_unsafe_difference_is_an_error(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream
) -> None:
    await js.create("ORDERS", ["orders.*.*"], retention="workqueue")
    project = make_project(
        functions={"charge": CHARGE}, streams={"orders": ORDERS + 'retention = "limits"\n'}
    )
    done = project.runner("check", "--nats-url", nats_server.url)
    assert done.code == 2
    assert "error: streams/orders.toml: retention" in done.stderr


@pytest.mark.server
def test_with_a_server_what_is_not_applied_is_told(
    make_project: Callable[..., Project], nats_server: NatsServer
) -> None:
    project = make_project(functions={"charge": CHARGE}, streams={"orders": ORDERS})
    done = project.runner("check", "--nats-url", nats_server.url)
    assert done.code == 0
    assert "not yet applied: ORDERS (runner apply)" in done.stderr


def test_without_a_server_none_is_asked(make_project: Callable[..., Project]) -> None:
    project = make_project(
        functions={"charge": CHARGE}, streams={"orders": ORDERS}, nats="nats://127.0.0.1:1"
    )
    assert project.runner("check").code == 0


ROUND = """
    from runner import consume

    @consume("orders.{id}", output="payments.{id}")
    async def pay(order: dict) -> dict: ...

    @consume("payments.*", output="receipts.1")
    async def book(payment: dict) -> dict: ...

    @consume("receipts.{id}", output="orders.{id}")
    async def print_out(receipt: dict) -> dict: ...

    @consume("payments.{id}", output="mail.{id}")
    async def thank(payment: dict) -> dict: ...
"""


def test_functions_that_feed_each_other_in_a_circle_are_warned_of(
    make_project: Callable[..., Project],
) -> None:
    shop = 'name = "SHOP"\nsubjects = ["orders.*", "payments.*", "receipts.*", "mail.*"]\n'
    project = make_project(functions={"shop": ROUND}, streams={"shop": shop})
    assert project.json("check")["warnings"] == [
        "pay → book → print_out → pay: what they publish comes back to pay, for ever unless one of them returns None at some time"
    ]
    project.function("shop", ROUND.replace('output="orders.{id}"', 'output="mail.{id}"'))
    assert project.json("check")["warnings"] == []


def test_order_on_a_stream_without_shards_is_warned_of(make_project: Callable[..., Project]) -> None:
    source = """
        from runner import consume

        @consume("orders.{customer}", ordered_by="customer")
        async def charge(order: dict) -> None: ...
    """
    stream = 'name = "ORDERS"\nsubjects = ["orders.{customer}"]\n'
    project = make_project(functions={"shop": source}, streams={"orders": stream})
    assert project.json("check")["warnings"] == [
        "charge keeps order, and ORDERS has no [shards]: one instance at a time handles it"
    ]
    project.stream("orders", stream + '[shards]\ncount = 4\nby = ["customer"]\n')
    assert project.json("check")["warnings"] == []


def test_everything_that_is_wrong_is_told_at_once(make_project: Callable[..., Project]) -> None:
    orders = """
        name = "ORDERS"
        subjects = ["orders.*.*"]
        retentoin = "limits"
        max_age = "yesterday"
        [shards]
        count = "four"
    """
    bound = "from runner import consume\n@consume('orders..created')\nasync def zz(body: bytes): ...\n"
    project = make_project(
        functions={
            "yy": "import nowhere_at_all",
            "zz": bound,
            "aa": "from functions import yy",
            "charge": CHARGE,
        },
        streams={"orders": orders, "paid": 'name = "PAID"\nsubjects = "paid.*"\n'},
    )
    done = project.runner("check", "--output", "json")
    told = [problem["message"] for problem in json.loads(done.stdout)["problems"]]
    assert done.code == 2
    for place in (
        "streams/orders.toml:4: retentoin: no such field",
        "streams/orders.toml:5: max_age: ",
        "streams/orders.toml:7: shards.count: ",
        "streams/paid.toml:2: subjects: ",
        "functions/yy.py:1: ModuleNotFoundError",
        "functions/zz.py:",
    ):
        assert sum(place in each for each in told) == 1, told
    assert len(told) == 6
    done = project.runner("run", "--nats-url", "nats://127.0.0.1:1")
    assert done.code == 2
    assert "functions/zz.py:" in done.stderr


SPLIT = """
    from runner import consume, gather

    @consume("orders.{customer}.created", output="lines.{customer}")
    async def split(body: dict[str, int], customer: str):
        yield body

    @consume("lines.{customer}", output="SUBJECT")
    async def price(body: dict[str, int], customer: str) -> dict[str, int]:
        return body

    @gather("priced.{customer}")
    async def total(lines: list[dict[str, int]]) -> None: ...
"""
LINES = 'name = "LINES"\nsubjects = ["lines.*", "priced.*", "prized.*"]\n'


def test_a_gather_to_which_no_function_splits_is_warned_of(make_project: Callable[..., Project]) -> None:
    project = make_project(
        functions={"orders": SPLIT.replace("SUBJECT", "priced.{customer}")},
        streams={"orders": ORDERS, "lines": LINES},
    )
    assert project.json("check")["warnings"] == []
    project.function("orders", SPLIT.replace("SUBJECT", "prized.{customer}"))
    (warning,) = project.json("check")["warnings"]
    assert warning.startswith("total joins the parts that come on priced.{customer}, and no function")


HOOKS = """
    from runner import around

    @around
    async def timed(ctx, call):
        await call()

    @around(scope="module")
    async def alone(ctx, call):
        await call()
"""


def test_hooks_are_listed_and_one_that_runs_around_nothing_is_told(
    make_project: Callable[..., Project],
) -> None:
    project = make_project(functions={"charge": CHARGE, "hooks": HOOKS}, streams={"orders": ORDERS})
    done = project.runner("check")
    assert (done.code, done.stdout) == (0, "shop: 1 function, 2 hooks, 1 stream, 1 warning\n")
    assert "the hook functions.hooks.alone runs around no function: its module has none" in done.stderr
    assert project.json("check")["hooks"] == [
        {"name": "functions.hooks.timed", "scope": "project"},
        {"name": "functions.hooks.alone", "scope": "module"},
    ]


def test_a_hook_that_is_wrong_is_told_with_its_place(make_project: Callable[..., Project]) -> None:
    wrong = "from runner import around\n\n@around\ndef timed(ctx, call): ...\n"
    done = make_project(functions={"charge": CHARGE, "hooks": wrong}).runner("check")
    assert done.code == 2
    assert "functions/hooks.py:3: the hook timed is not async" in done.stderr
    assert "hint: write `async def timed(ctx: Context, call): return await call()`" in done.stderr


MISFIT = """
    from collections.abc import AsyncIterator
    from msgspec import Struct
    from runner import consume, gather

    class Line(Struct):
        name: str

    class Price(Struct):
        cents: int

    @consume("orders.{n}", output="lines.{n}")
    async def split(order: dict) -> AsyncIterator[Line]:
        yield Line("a")

    @gather("lines.{n}")
    async def total(prices: list[Price]) -> None: ...
"""


def test_parts_that_a_gather_cannot_take_are_told(make_project: Callable[..., Project]) -> None:
    sales = 'name = "SALES"\nsubjects = ["orders.*", "lines.*"]\n'
    found = make_project(functions={"sales": MISFIT}, streams={"sales": sales}).json("check")
    assert found["warnings"] == [
        "total takes Price from lines.{n}, and split, whose output goes there, yields Line: it has no 'cents'"
    ]


EDGE = """
    route_files = ["routes"]
    [[tool.jetrunner.routes]]
    path = "/orders/{customer}"
    publish = "orders.{customer}.created"
    [[tool.jetrunner.routes]]
    path = "/quotes"
    request = "quotes"
"""


def test_declared_routes_are_held_against_streams_and_functions(make_project: Callable[..., Project]) -> None:
    project = make_project(functions={"charge": CHARGE}, streams={"orders": ORDERS}, settings=EDGE)
    (project.root / "routes").mkdir()
    done = project.runner("check")
    assert done.code == 0
    assert "route POST /quotes: no function of this project answers on quotes;" in done.stderr
    project.settings(EDGE.replace('"orders.{customer}.created"', '"parcels.{customer}"'))
    done = project.runner("check")
    assert done.code == 2
    assert "error: route POST /orders/{customer}: no stream captures" in done.stderr


def test_manifests_are_read_and_told_with_file_and_line(make_project: Callable[..., Project]) -> None:
    project = make_project(functions={"charge": CHARGE}, streams={"orders": ORDERS}, settings=EDGE)
    (project.root / "routes").mkdir()
    file = project.root / "routes" / "edge.yaml"
    file.write_text(
        "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: shop}\n"
        "spec: {defaultBackend: {service: {name: charge}}}\n"
    )
    done = project.runner("check")
    assert done.code == 0
    assert (
        "edge.yaml:1: ingress default/shop: service charge: the function of that name answers no"
        in done.stderr
    )
    file.write_text("kind: Ingress\napiVersion: networking.k8s.io/v1\n")
    done = project.runner("check")
    assert done.code == 2
    assert "edge.yaml:1: missing required field metadata" in done.stderr


def test_a_secret_that_is_not_set_where_it_is_checked_is_told(make_project: Callable[..., Project]) -> None:
    settings = (
        EDGE
        + """
    [tool.jetrunner.auth.partners]
    kind = "api_key"
    keys_env = "PARTNER_KEYS"
    [tool.jetrunner.auth.github]
    kind = "webhook"
    style = "github"
    secret_env = "GITHUB_SECRET"
    [tool.jetrunner.auth.staff]
    kind = "jwt"
    jwks_file = "jwks.json"
    issuer = "https://login.example.com/"
    audience = "orders"
    """
    )
    project = make_project(functions={"charge": CHARGE}, streams={"orders": ORDERS}, settings=settings)
    (project.root / "routes").mkdir()
    done = project.runner("check", GITHUB_SECRET="s-7f3a9c0d51e24b68")
    assert done.code == 0
    assert "auth.partners: the environment variable PARTNER_KEYS is not set here" in done.stderr
    assert "GITHUB_SECRET" not in done.stderr
    assert "jwks.json here; the gateway does not start without it" in done.stderr
    (project.root / "jwks.json").write_text("{}")
    assert "jwks.json" not in project.runner("check").stderr
