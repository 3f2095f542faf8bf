"""`runner permissions`: its forms, whom it is for, and what it cannot know."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.jwt import Authority
from tests.support.project import Project
from tests.support.server import NatsServer

CHARGE = """
from runner import Context, consume

@consume("orders.{name}", output="paid.{name}")
async def charge(body: bytes, name: str) -> bytes:
    return body

@consume("audit.>")
async def look(body: bytes) -> None: ...
"""
ORDERS = {
    "orders": 'name = "ORDERS"\nsubjects = ["orders.*"]\n',
    "paid": 'name = "PAID"\nsubjects = ["paid.*"]\n',
}

AUDIT = 'name = "AUDIT"\nsubjects = ["audit.>"]\n'


@pytest.fixture
def project(make_project: Callable[..., Project]) -> Project:
    return make_project(functions={"shop": CHARGE}, streams=ORDERS)


def claims(project: Project, *arguments: str) -> dict[str, Any]:
    done = project.runner("permissions", *arguments, "--form", "jwt")
    assert done.code == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)["nats"]
    return found


def test_both_forms_say_the_same_and_each_line_what_it_is_for(project: Project) -> None:
    done = project.runner("permissions", "charge")
    subjects = re.findall(r'^ +"(\S+)" +# \S.*$', done.stdout, re.MULTILINE)
    found = claims(project, "charge")
    assert subjects == [*found["pub"]["allow"], *found["sub"]["allow"]]
    assert len(set(found["pub"]["allow"])) == len(found["pub"]["allow"])
    assert done.stderr == ""


def test_of_named_functions_nothing_of_others_is_there(project: Project) -> None:
    assert "audit" not in json.dumps(claims(project, "charge", "--for", "publish"))
    assert "look" not in json.dumps(claims(project, "charge"))
    assert "paid.*" in claims(project, "charge")["pub"]["allow"]
    assert claims(project, "look", "--for", "publish")["pub"]["allow"][0] == "audit.>"


def test_a_stream_that_no_file_declares_is_a_star_and_told(project: Project) -> None:
    done = project.runner("permissions", "look")
    assert '"$JS.API.CONSUMER.CREATE.*.shop-look"' in done.stdout
    assert "no declared stream captures what look reads" in done.stderr


def test_what_handlers_publish_is_added_once(project: Project) -> None:
    found = claims(project, "charge", "--publishes", "notes.*", "--publishes", "paid.*")["pub"]["allow"]
    assert found.count("notes.*") == found.count("paid.*") == 1


@pytest.mark.parametrize("subject", ["", "a b", "a..b", 'a"b', "a.>.b"])
def test_what_is_no_subject_is_an_error(project: Project, subject: str) -> None:
    done = project.runner("permissions", "--publishes", subject)
    assert done.code == 2
    assert "--publishes" in done.stderr


def test_a_function_that_is_not_there_is_an_error(project: Project) -> None:
    done = project.runner("permissions", "charg")
    assert done.code == 2
    assert "did you mean 'charge'?" in done.stderr


def test_the_inbox_is_the_one_that_the_project_uses(project: Project) -> None:
    project.settings('nats_inbox_prefix = "_IN_shop"')
    assert claims(project)["sub"]["allow"][0] == "_IN_shop.>"


@pytest.mark.server
def test_a_server_takes_its_form_as_it_is_printed(
    project: Project, make_server: Callable[..., NatsServer]
) -> None:
    project.stream("audit", AUDIT)
    block = project.runner("permissions").stdout
    server = make_server(
        f'authorization {{ users: [ {{ user: "run", password: "run", {block} }}, {{ user: "all", password: "all" }} ] }}'
    )
    applied = project.runner("apply", NATS_URL=server.url_as("all", "all"))
    assert applied.code == 0, applied.stderr
    process = project.start("run", "--only", "charge", NATS_URL=server.url_as("run", "run"))
    process.line("ready: charge")
    assert "Violation" not in server.log.read_text()


@pytest.mark.server
@pytest.mark.parametrize("whole", [True, False])
def test_durables_of_a_stream_with_interest_retention_stand_after_apply(
    make_project: Callable[..., Project], make_server: Callable[..., NatsServer], whole: bool
) -> None:
    source = CHARGE.replace('name}", output', 'name}", ordered_by="name", output')
    interest = f'{ORDERS["orders"].replace("*", "{name}")}retention = "interest"\n[shards]\ncount = 2\nby = ["name"]\n'
    project = make_project(functions={"shop": source}, streams={**ORDERS, "orders": interest, "audit": AUDIT})
    applying = {role: claims(project, "--for", role) for role in ("run", "operate")}
    needed = "$JS.API.CONSUMER.CREATE.ORDERS.*"
    assert needed in applying["operate"]["pub"]["allow"]
    if not whole:
        applying["operate"]["pub"]["allow"].remove(needed)
    server = make_server(authorization(applying))
    assert project.runner("apply", NATS_URL=server.url_as("operate", "x")).code == 0
    process = project.start("run", NATS_URL=server.url_as("run", "x"))
    process.line("ready: ")
    done = project.runner("shard", "resize", "ORDERS", "3", NATS_URL=server.url_as("operate", "x"))
    assert (done.code == 0) is whole, done.stderr


@pytest.mark.server
def test_a_stream_that_is_read_gets_its_shards(
    project: Project, make_server: Callable[..., NatsServer]
) -> None:
    plain = ORDERS["orders"].replace("*", "{name}")
    project.stream("audit", AUDIT)
    project.stream("orders", f'{plain}[shards]\ncount = 2\nby = ["name"]\n')
    server = make_server(authorization({role: claims(project, "--for", role) for role in ("run", "operate")}))
    urls = {role: server.url_as(role, "x") for role in ("run", "operate")}
    project.stream("orders", plain)
    assert project.runner("apply", NATS_URL=urls["operate"]).code == 0
    process = project.start("run", NATS_URL=urls["run"])
    process.line("ready: ")
    process.terminate()
    assert process.wait() == 0
    project.stream("orders", f'{plain}[shards]\ncount = 2\nby = ["name"]\n')
    done = project.runner("apply", NATS_URL=urls["operate"])
    assert done.code == 0, done.stderr
    assert "Violation" not in server.log.read_text()


def authorization(roles: dict[str, Any]) -> str:
    """Users with these claims, in the server's configuration."""
    users = [
        f'{{ user: "{role}", password: "x", permissions: '
        + json.dumps({"publish": each["pub"]["allow"], "subscribe": each["sub"]["allow"]})
        + " }"
        for role, each in roles.items()
    ]
    return f"authorization {{ users: [ {', '.join(users)} ] }}"


@pytest.mark.server
def test_a_user_by_jwt_runs_and_publishes_with_the_printed_claims(
    project: Project, make_server: Callable[..., NatsServer], tmp_path: Path
) -> None:
    project.stream("audit", AUDIT)
    authority = Authority()
    server = make_server(authority.config)
    credentials = {
        role: str(authority.credentials(tmp_path / f"{role}.creds", claims(project, "charge", "--for", role)))
        for role in ("run", "publish", "operate")
    }
    applied = project.runner("apply", NATS_URL=server.url, NATS_CREDS=credentials["operate"])
    assert applied.code == 0, applied.stderr
    process = project.start("run", "--only", "charge", NATS_URL=server.url, NATS_CREDS=credentials["run"])
    process.line("ready: charge")
    sent = project.runner("publish", "orders.a", "7", NATS_URL=server.url, NATS_CREDS=credentials["publish"])
    assert sent.stdout == "ORDERS:1\n"
    refused = project.runner("publish", "paid.a", "7", NATS_URL=server.url, NATS_CREDS=credentials["publish"])
    assert "do not allow to publish to paid.a" in refused.stderr
    assert server.log.read_text().count("Violation") == 1


@pytest.mark.server
def test_doctor_looks_at_all_with_both_rights_and_tells_what_it_may_not_look_at_with_those_of_run(
    project: Project, make_server: Callable[..., NatsServer]
) -> None:
    project.stream("audit", AUDIT)
    rights = {role: claims(project, "--for", role) for role in ("run", "operate")}
    both = {
        side: {"allow": [*rights["run"][side]["allow"], *rights["operate"][side]["allow"]]}
        for side in ("pub", "sub")
    }
    server = make_server(authorization({**rights, "both": both}))
    assert project.runner("apply", NATS_URL=server.url_as("operate", "x")).code == 0
    process = project.start("run", NATS_URL=server.url_as("run", "x"))
    process.line("ready: ")
    assert project.json("doctor", NATS_URL=server.url_as("both", "x"))["findings"] == []
    (unseen,) = project.json("doctor", NATS_URL=server.url_as("run", "x"))["findings"]
    assert unseen["severity"] == "may hurt"
    assert unseen["meaning"].endswith("were not looked at")
    assert process.running
