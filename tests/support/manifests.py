"""Manifests as the API server would hold them, from a few words; and the cases of both specifications."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

CASES: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "data" / "routing-cases.json").read_text(encoding="utf-8")
)["groups"]
"""Facts restated from the conformance suites of Ingress and of the Gateway API; a service of null is a 404."""


def backend(service: str) -> dict[str, Any]:
    return {"service": {"name": service, "port": {"number": 80}}}


def path(path: str | None, service: str = "one", kind: str = "Prefix") -> dict[str, Any]:
    return {"pathType": kind, "backend": backend(service), **({} if path is None else {"path": path})}


def rule(*paths: dict[str, Any], host: str | None = None) -> dict[str, Any]:
    return {"http": {"paths": list(paths)}, **({} if host is None else {"host": host})}


def ingress(
    *rules: dict[str, Any], name: str = "shop", annotations: Any = None, **spec: Any
) -> dict[str, Any]:
    metadata = {"name": name, **({} if annotations is None else {"annotations": annotations})}
    if rules:
        spec["rules"] = list(rules)
    return {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": metadata, "spec": spec}


def httproute(
    *rules: dict[str, Any], name: str = "shop", hostnames: Sequence[str] = (), annotations: Any = None
) -> dict[str, Any]:
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": name, **({} if annotations is None else {"annotations": annotations})},
        "spec": {"parentRefs": [{"name": "edge"}], "hostnames": list(hostnames), "rules": list(rules)},
    }


def refs(*services: str, **weights: int) -> list[dict[str, Any]]:
    return [{"name": name, "port": 80} for name in services] + [
        {"name": name, "port": 80, "weight": weight} for name, weight in weights.items()
    ]


def match(given: Mapping[str, Any]) -> dict[str, Any]:
    """A match of the cases, as an HTTPRoute has it."""
    found: dict[str, Any] = {}
    if "path" in given:
        found["path"] = dict(zip(("type", "value"), given["path"], strict=True))
    for key, field in (("headers", "headers"), ("query", "queryParams")):
        if key in given:
            found[field] = [{"name": name, "value": value} for name, value in given[key].items()]
    if "method" in given:
        found["method"] = given["method"]
    return found


def manifests(group: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    """A group of the cases as documents."""
    if group["kind"] == "Ingress":
        rules = [rule(path(r["path"], r["service"], r["pathType"]), host=r["host"]) for r in group["rules"]]
        default: dict[str, Any] = {"defaultBackend": backend(group["default"])} if group["default"] else {}
        yield ingress(*rules, **default)
        return
    for number, route in enumerate(group.get("routes", ())):
        rules = [
            {"matches": [match(each) for each in r["matches"]], "backendRefs": refs(**dict(r["services"]))}
            for r in route["rules"]
        ]
        yield httproute(*rules, name=f"route-{number}", hostnames=route["hostnames"])


def services(group: Mapping[str, Any]) -> set[str]:
    """All services that a group names."""
    if group["kind"] == "Ingress":
        return {r["service"] for r in group["rules"]} | ({group["default"]} if group["default"] else set())
    return {name for route in group.get("routes", ()) for r in route["rules"] for name, _ in r["services"]}
