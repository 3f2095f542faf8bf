"""`runner run`: what runs, how workers are watched over, and how it ends."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import anyio
import httpx
import pytest

from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.port import free_port
from tests.support.project import Project
from tests.support.server import NatsServer

pytestmark = pytest.mark.server

SHOP = """
    import os
    import time

    import anyio

    from journal import note
    from runner import consume

    @consume("orders.quick")
    async def quick(body: bytes) -> None:
        note("quick")

    @consume("orders.slow")
    async def slow(body: bytes) -> None:
        note("begun")
        await anyio.sleep(float(body))
        note("ended")

    @consume("orders.blocking")
    async def blocking(body: bytes) -> None:
        note("begun")
        time.sleep(float(body))
"""


@pytest.fixture
async def shop(make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream) -> Project:
    await js.create("ORDERS", ["orders.*"])
    return make_project(functions={"shop": SHOP}, nats=nats_server.url)


async def test_only_the_chosen_functions_run(shop: Project, js: RawJetStream) -> None:
    runner = shop.start("run", "--only", "quick", "--only", "slow", "--except", "slow")
    await js.publish("orders.quick", b"")
    await js.publish("orders.quick", b"x")
    await eventually(lambda: shop.journal("quick"))
    assert (await js.api("CONSUMER.NAMES.ORDERS"))["consumers"] == ["shop-quick"]
    runner.terminate()
    assert await runner.ended() == 0


async def test_a_name_that_is_no_function_is_wrong_usage(shop: Project) -> None:
    for option in ("--only", "--except"):
        done = shop.runner("run", option, "quik")
        assert done.code == 2
        assert "error: there is no function 'quik'\nhint: did you mean 'quick'?" in done.stderr
    done = shop.runner("run", "--except", "quick", "--except", "slow", "--except", "blocking")
    assert (done.code, "there is no function to run" in done.stderr) == (2, True)


async def test_one_signal_lets_what_runs_finish(shop: Project, js: RawJetStream) -> None:
    runner = shop.start("run")
    await js.publish("orders.slow", b"0.5")
    await eventually(lambda: shop.journal("begun"))
    runner.interrupt()
    assert await runner.ended() == 0
    assert len(shop.journal("ended")) == 1


async def test_a_second_signal_cancels_what_runs(shop: Project, js: RawJetStream) -> None:
    runner = shop.start("run")
    await js.publish("orders.slow", b"60")
    await eventually(lambda: shop.journal("begun"))
    runner.terminate()
    await runner.seen("SIGTERM: once more cancels")
    runner.terminate()
    assert await runner.ended() == 0
    assert shop.journal("ended") == []


async def test_a_third_signal_ends_even_a_process_whose_loop_is_blocked(
    shop: Project, js: RawJetStream
) -> None:
    runner = shop.start("run")
    await js.publish("orders.blocking", b"60")
    await eventually(lambda: shop.journal("begun"))
    for _ in range(3):
        runner.terminate()
        # Signals that arrive together would count as one.
        await eventually(lambda: pending(runner.pid) == 0 or not runner.running)
    assert await runner.ended() == 128 + signal.SIGTERM


def pending(pid: int) -> int:
    """Signals the process has not taken yet, as a mask."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except FileNotFoundError:
        return 0
    return next(int(line.split()[1], 16) for line in lines if line.startswith("ShdPnd"))


async def test_streams_that_are_declared_and_not_applied_need_nothing_but_that(
    make_project: Callable[..., Project], nats_server: NatsServer
) -> None:
    project = make_project(
        functions={"shop": SHOP},
        streams={"orders": 'name = "ORDERS"\nsubjects = ["orders.*"]\n'},
        nats=nats_server.url,
    )
    for workers in ("1", "2"):
        done = project.runner("run", "--workers", workers)
        assert done.code == 2
        for function in ("quick", "slow", "blocking"):
            assert done.stderr.count(f"{function}: no stream captures orders.{function} yet") == 1
        assert done.stderr.count("error:") == 1
        assert "hint: run `runner apply`\n" in done.stderr


async def test_a_stream_that_is_missing_is_wrong_usage_and_names_the_function(
    make_project: Callable[..., Project], nats_server: NatsServer
) -> None:
    project = make_project(functions={"shop": SHOP}, nats=nats_server.url)
    for workers in ("1", "2"):
        done = project.runner("run", "--workers", workers)
        assert (done.code, done.stdout) == (2, "")
        assert "no stream captures orders.quick" in done.stderr
        assert "hint: " in done.stderr


async def test_a_dead_worker_is_told_and_started_again(shop: Project, js: RawJetStream) -> None:
    runner = shop.start("run", "--workers", "2")
    await runner.seen("worker 1 of 2 is ready")
    await runner.seen("worker 2 of 2 is ready")
    first, _ = runner.children()
    os.kill(first, signal.SIGKILL)
    assert "starts again in 0.1 s" in await runner.seen(rf"pid {first}\) ended: SIGKILL")
    await eventually(lambda: len(runner.children()) == 2 and first not in runner.children())
    await eventually(lambda: sum("is ready" in line for line in runner.stderr) == 3)
    runner.terminate()
    assert await runner.ended() == 0


async def test_workers_drain_at_one_signal(shop: Project, js: RawJetStream) -> None:
    runner = shop.start("run", "--workers", "2")
    await runner.seen("worker 1 of 2 is ready")
    await js.publish("orders.slow", b"0.5")
    await eventually(lambda: shop.journal("begun"))
    runner.interrupt()
    assert await runner.ended() == 0
    assert len(shop.journal("ended")) == 1


async def test_workers_end_when_their_supervisor_is_killed(shop: Project) -> None:
    runner = shop.start("run", "--workers", "2")
    await runner.seen("worker 1 of 2 is ready")
    await runner.seen("worker 2 of 2 is ready")
    workers = runner.children()
    runner.kill()
    await eventually(lambda: not any(alive(worker) for worker in workers))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_every_worker_has_health_on_a_port_of_its_own(shop: Project) -> None:
    port = free_port(2)
    runner = shop.start("run", "--workers", "2", "--health", f"127.0.0.1:{port}")
    await runner.seen("worker 1 of 2 is ready")
    await runner.seen("worker 2 of 2 is ready")
    async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
        for number in range(2):
            assert (await http.get(f"http://127.0.0.1:{port + number}/readyz")).status_code == 200
    runner.terminate()
    assert await runner.ended() == 0


async def test_a_file_named_runner_in_the_project_is_not_taken_for_us(shop: Project) -> None:
    (shop.root / "runner.py").write_text("raise SystemExit('wrong runner')\n")
    command = [sys.executable, "-P", "-m", "runner", "run", "--workers", "2", "--only", "none"]
    done = await anyio.run_process(command, cwd=shop.root, env=shop.environment, check=False)
    assert done.returncode == 2
    assert b"there is no function 'none'" in done.stderr


@pytest.mark.parametrize("command", ["run", "dev"])
async def test_an_ordered_function_on_a_stream_without_shards_is_told_to_have_one_instance_at_a_time(
    make_project: Callable[..., Project], nats_server: NatsServer, command: str
) -> None:
    ordered = """
    from runner import consume

    @consume("ledger.{account}", ordered_by="account")
    async def post(body: bytes) -> None: ...

    @consume("books.{account}", ordered_by="account")
    async def enter(body: bytes) -> None: ...

    @consume("ledger.{account}")
    async def see(body: bytes) -> None: ...
    """
    streams = {
        "ledger": 'name = "LEDGER"\nsubjects = ["ledger.{account}"]',
        "books": 'name = "BOOKS"\nsubjects = ["books.{account}"]\n[shards]\ncount = 2\nby = ["account"]',
    }
    project = make_project(functions={"ledger": ordered}, streams=streams, nats=nats_server.url)
    assert project.runner("apply").code == 0
    runner = project.start(command)
    await runner.seen("dev ready in" if command == "dev" else "ready: ")
    told = [line.split(": ", 1)[1] for line in runner.stderr if "[shards]" in line]
    assert told == ["post: LEDGER has no [shards]: one instance at a time handles it"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
async def test_a_signal_to_the_whole_process_group_drains_workers_and_cancels_nothing(
    shop: Project, js: RawJetStream, number: signal.Signals
) -> None:
    """As systemd sends it by default, and a terminal."""
    runner = shop.start("run", "--workers", "2")
    await runner.seen("worker 1 of 2 is ready")
    await runner.seen("worker 2 of 2 is ready")
    await js.publish("orders.slow", b"1.5")
    await eventually(lambda: shop.journal("begun"))
    os.killpg(runner.pid, number)
    assert await runner.ended() == 0
    assert [note["what"] for note in shop.journal()] == ["begun", "ended"]


async def test_a_second_signal_to_the_process_group_cancels_what_workers_run(
    shop: Project, js: RawJetStream
) -> None:
    runner = shop.start("run", "--workers", "2")
    await runner.seen("worker 1 of 2 is ready")
    await runner.seen("worker 2 of 2 is ready")
    await js.publish("orders.slow", b"60")
    await eventually(lambda: shop.journal("begun"))
    os.killpg(runner.pid, signal.SIGTERM)
    await runner.seen("once more cancels")
    await eventually(lambda: runner.output.count("draining") == 2)
    os.killpg(runner.pid, signal.SIGTERM)
    assert await runner.ended() == 0, runner.output
    assert shop.journal("ended") == []


async def test_a_signal_to_a_worker_that_has_done_all_and_ends_is_no_failure(
    shop: Project, js: RawJetStream
) -> None:
    shop.function(
        "lingering",
        """
        import os
        import sys
        import time

        from journal import note
        from runner import consume

        class Lingering:
            def __del__(self, note=note, now=time.monotonic, there=os.path.exists):
                note("ending")
                ends = now() + 20
                while now() < ends and not there("signalled"):
                    pass

        sys.modules["lingering"] = Lingering()

        @consume("orders.lingering")
        def lingering(body: bytes) -> None: ...
        """,
    )
    runner = shop.start("run", "--workers", "1")
    await runner.seen("worker 1 of 1 is ready")
    os.killpg(runner.pid, signal.SIGTERM)
    await eventually(lambda: shop.journal("ending"))
    os.killpg(runner.pid, signal.SIGTERM)
    (shop.root / "signalled").touch()
    assert await runner.ended(within=60) == 0, runner.output


async def test_a_program_that_a_workers_handler_starts_hears_sigterm(shop: Project, js: RawJetStream) -> None:
    shop.function(
        "programs",
        """
        import subprocess

        from journal import note
        from runner import consume

        @consume("orders.program")
        def program(body: bytes) -> None:
            started = subprocess.Popen(["sleep", "60"])
            started.terminate()
            note("program", code=started.wait(5))
        """,
    )
    runner = shop.start("run", "--workers", "1")
    await runner.seen("worker 1 of 1 is ready")
    await js.publish("orders.program", b"x")
    await eventually(lambda: shop.journal("program"))
    assert [note["code"] for note in shop.journal("program")] == [-signal.SIGTERM]


async def test_a_password_in_the_url_is_in_no_workers_arguments_and_its_own_place_is_warned_of(
    shop: Project, nats_server: NatsServer, js: RawJetStream
) -> None:
    url = nats_server.url.replace("://", "://bob:hidden-word@")
    runner = shop.start("run", "--workers", "1", "--nats-url", url, NATS_URL="nats://127.0.0.1:1")
    await runner.seen("worker 1 of 1 is ready")
    (worker,) = runner.children()
    assert b"hidden-word" not in await anyio.Path(f"/proc/{worker}/cmdline").read_bytes()
    await js.publish("orders.quick", b"x")
    await eventually(lambda: shop.journal("quick"))
    warnings = [line for line in runner.stderr if "can be read by every user" in line]
    assert len(warnings) == 1
    assert "NATS_URL" in warnings[0]
    assert "hidden-word" not in runner.output


@pytest.mark.parametrize("where", ["import", "lifespan"])
async def test_a_projects_logging_configuration_does_not_silence_the_runner(
    shop: Project, js: RawJetStream, where: str
) -> None:
    shop.function(
        "logs",
        """
        import logging.config

        from runner import Context, consume, lifespan

        def configured():
            logging.config.dictConfig({"version": 1})  # disables every logger it does not name

        @lifespan
        async def life():
            if WHERE == "lifespan":
                configured()
            yield

        if WHERE == "import":
            configured()

        @consume("orders.fails")
        async def fails(body: bytes, ctx: Context) -> None:
            ctx.log.info("the function's own word")
            raise ValueError("told")
        """.replace("WHERE", repr(where)),
    )
    runner = shop.start("run")
    await runner.seen("ready: ")
    await js.publish("orders.fails", b"x")
    await runner.seen("the function's own word")
    await runner.seen("ValueError: told")
    runner.terminate()
    await runner.seen("draining")
    assert await runner.ended() == 0
