"""Both specifications' own cases: Ingress and HTTPRoute lead each request where their conformance suites say."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from runner.core.http import httproute, ingress, rewriting
from runner.core.http.backend import FunctionBackend, RouteBackend
from runner.core.http.filters import Rewrite
from runner.core.http.routetable import Matched, RouteTable
from tests.support import manifests
from tests.support.manifests import CASES

REQUESTS = [(group, case) for group in CASES for case in group["cases"]]


def table(group: dict[str, Any]) -> RouteTable:
    services: dict[str, RouteBackend | str] = {
        name.replace("-", "_"): FunctionBackend(name) for name in manifests.services(group)
    }
    read = ingress.read if group["kind"] == "Ingress" else httproute.read
    found = [read(document, services) for document in manifests.manifests(group)]
    assert [each.remarks for each in found if each.remarks] == []
    return RouteTable((route for each in found for route in each.routes), luck=Random(3).random)


def asked(found: RouteTable, case: dict[str, Any]) -> str | int:
    """The service that gets the request, or the status of the refusal."""
    headers = [(name.lower().encode(), value.encode()) for name, value in case.get("headers", {}).items()]
    query = urlencode(case.get("query", {})).encode()
    got = found.match(case.get("method", "GET"), case["host"], quote(case["path"]).encode(), query, headers)
    if isinstance(got, Matched):
        assert isinstance(got.backend, FunctionBackend)
        return got.backend.function
    return got.status


def test_there_are_as_many_cases_as_were_collected() -> None:
    assert (len(CASES), len(REQUESTS)) == (22, 137)


@pytest.mark.parametrize(
    ("group", "case"),
    REQUESTS,
    ids=[f"{group['name']}-{number}" for number, (group, _) in enumerate(REQUESTS)],
)
def test_a_request_goes_where_the_specification_says(group: dict[str, Any], case: dict[str, Any]) -> None:
    assert asked(table(group), case) == (case["service"] or 404)


def test_requests_are_divided_within_five_points_of_the_weights() -> None:
    (group,) = [group for group in CASES if "shares" in group]
    found = table(group)
    counts = Counter(asked(found, {"host": "", "path": "/"}) for _ in range(2000))
    for service, share in group["shares"].items():
        assert counts[service] / 2000 == pytest.approx(share, abs=0.05 if share else 0)


REWRITES = [case for group in CASES for case in group.get("rewrites", ())]


@pytest.mark.parametrize("case", REWRITES, ids=[case["path"] for case in REWRITES])
def test_a_path_is_rewritten_as_the_specification_says(case: dict[str, str]) -> None:
    path = (
        {"type": "ReplaceFullPath", "replaceFullPath": case["replaceFull"]}
        if "replaceFull" in case
        else {"type": "ReplacePrefixMatch", "replacePrefixMatch": case["replacePrefix"]}
    )
    prefix = case.get("prefix", "/full")
    rule = {
        "matches": [{"path": {"type": "PathPrefix", "value": prefix}}],
        "filters": [{"type": "URLRewrite", "urlRewrite": {"path": path}}],
        "backendRefs": manifests.refs("one"),
    }
    found = httproute.read(manifests.httproute(rule), {"one": FunctionBackend("one")})
    got = RouteTable(found.routes, luck=lambda: 0.0).match("GET", "", case["path"].encode(), b"", ())
    assert isinstance(got, Matched)
    assert any(isinstance(each, Rewrite) for each in got.filters)
    assert rewriting.rewritten(case["path"].encode(), got.route, got.filters) == case["becomes"].encode()
