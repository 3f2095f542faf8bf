"""An OpenAPI 3.1 document: the HTTP edge of a project, as its functions' types and its routes say it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import UNSET, to_builtins

from runner.annotation import bare
from runner.bindings import Binding
from runner.core.http.authsettings import ApiKeySettings, AuthSettings, JwtSettings, WebhookSettings
from runner.core.http.route import Route
from runner.core.httpendpoint import BODILESS
from runner.discovery import Project
from runner.schemas.described import Described, described, media
from runner.schemas.operations import Operation, operations
from runner.schemas.types import Schema, Types
from runner.signature import EMPTY

VERSION = "3.1.0"
MEDIA = {"json": "application/json", "text": "text/plain", "bytes": "application/octet-stream"}
EVENTS = "text/event-stream"


def document(project: Project, routes: Iterable[Route], auth: Mapping[str, AuthSettings]) -> dict[str, Any]:
    """The document of a project with the routes that are declared beside its functions."""
    return _Document(project, operations(project, routes), auth).built()


class _Document:
    """The document on its way."""

    def __init__(
        self,
        project: Project,
        operations: Sequence[Operation],
        auth: Mapping[str, AuthSettings],
    ) -> None:
        self.project = project
        self.operations = operations
        self.auth = auth
        readers = {id(each.reader): each.reader for each in self.operations if each.reader is not None}
        self.said = {key: described(reader) for key, reader in readers.items()}
        self.types = Types(_annotations(readers.values(), self.said.values()))
        self._ids: set[str] = set()

    def built(self) -> dict[str, Any]:
        paths: dict[str, Any] = {}
        for each in self.operations:
            paths.setdefault(each.path, {})[each.method] = self._operation(each)
        components: dict[str, Any] = {
            "schemas": {**self.types.components, self._problem_name(): PROBLEM},
            "responses": {"Problem": self._problem()},
        }
        if self.auth:
            components["securitySchemes"] = {name: _scheme(each) for name, each in self.auth.items()}
        return {
            "openapi": VERSION,
            "info": {"title": self.project.name, "version": self.project.version},
            "paths": dict(sorted(paths.items())),
            "components": components,
        }

    def _operation(self, each: Operation) -> dict[str, Any]:
        said = (
            self.said[id(each.reader)]
            if each.reader is not None
            else Described(f"{each.method.upper()} {each.path}", "", Any)
        )
        description = "\n\n".join(filter(None, (said.description, each.note)))
        found: dict[str, Any] = {"operationId": self._id(each.name), "summary": said.summary}
        if description:
            found["description"] = description
        if parameters := self._parameters(each):
            found["parameters"] = parameters
        if body := self._body(each):
            found["requestBody"] = body
        found["responses"] = self._responses(each, said)
        if each.auth:
            found["security"] = [{name: []} for name in each.auth if name in self.auth]
        if each.hosts:
            found["servers"] = [_server(host) for host in each.hosts]
        return found

    def _id(self, name: str) -> str:
        """One that no other operation has."""
        found, number = name, 2
        while found in self._ids:
            found, number = f"{name}_{number}", number + 1
        self._ids.add(found)
        return found

    def _parameters(self, each: Operation) -> list[dict[str, Any]]:
        signature = each.reader.signature if each.reader is not None else None
        annotations = dict(signature.tokens) if signature is not None else {}
        named = [part[1:-1] for part in each.path.split("/") if part.startswith("{")]
        found: list[dict[str, Any]] = [
            {"name": name, "in": "path", "required": True, "schema": self._token(annotations.get(name, str))}
            for name in named
        ]
        if signature is not None and each.reader is not None and each.reader.route is not None:
            for query in signature.query:
                schema = dict(self.types.of(query.annotation))
                if query.default is not EMPTY and (default := _plain(query.default)) is not UNSET:
                    schema["default"] = default
                found.append(
                    {"name": query.name, "in": "query", "required": query.default is EMPTY, "schema": schema}
                )
        if each.stores and each.idempotency != "off":
            found.append(
                {
                    "name": "Idempotency-Key", "in": "header", "required": each.idempotency == "required",
                    "description": "A request that is sent again under the same key is stored once.",
                    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
                }
            )  # fmt: skip
        return found

    def _token(self, annotation: Any) -> Schema:
        return self.types.of(annotation) or {"type": "string"}

    def _body(self, each: Operation) -> dict[str, Any] | None:
        if each.method.upper() in BODILESS or each.moved is not None:
            return None
        if each.reader is None:
            return {"content": {"application/json": {"schema": {}}}}
        body = each.reader.signature.body
        if body is None:
            return None
        return {"required": body.default is EMPTY, "content": self._content(body.annotation, packed=True)}

    def _content(self, annotation: Any, *, packed: bool = False) -> dict[str, Any]:
        kind = media(annotation)
        schema = {} if kind == "bytes" else self.types.of(annotation)
        found = {MEDIA[kind]: {"schema": schema}}
        if kind == "json" and packed:
            found["application/msgpack"] = {"schema": schema}
        return found

    def _responses(self, each: Operation, said: Described) -> dict[str, Any]:
        problem = {"$ref": "#/components/responses/Problem"}
        if each.moved is not None:
            return {
                str(each.moved.status): {"description": "It is elsewhere: see Location."},
                "default": problem,
            }
        if each.stores:
            stored = {
                "description": "The stream has it.",
                "content": {"application/json": {"schema": STORED}},
            }
            return {"202": stored, "default": problem}
        if each.reader is None:
            return {
                "200": {"description": "The answer.", "content": {"application/json": {"schema": {}}}},
                "default": problem,
            }
        if each.reader.kind.endswith("generator"):
            events = {
                "description": "An event for each item.",
                "content": {EVENTS: {"schema": {"type": "string"}}},
            }
            return {"200": events, "default": problem}
        core = bare(said.returns)
        if core is type(None) or said.returns is None:
            return {"204": {"description": "Done."}, "default": problem}
        if getattr(core, "__module__", "") == "runner.responses":
            return {"200": {"description": "The answer."}, "default": problem}
        answer = {"description": "The answer.", "content": self._content(said.returns)}
        return {"200": answer, "default": problem}

    def _problem_name(self) -> str:
        return "JetrunnerProblem" if "Problem" in self.types.components else "Problem"

    def _problem(self) -> dict[str, Any]:
        schema = {"$ref": f"#/components/schemas/{self._problem_name()}"}
        return {
            "description": "Why not (RFC 9457).",
            "content": {"application/problem+json": {"schema": schema}},
        }


PROBLEM: Schema = {
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
    },
    "required": ["title", "status"],
}
STORED: Schema = {
    "type": "object",
    "properties": {
        "stream": {"type": "string"},
        "sequence": {"type": "integer"},
        "message_id": {"type": "string"},
        "duplicate": {"type": "boolean"},
    },
    "required": ["stream"],
}


def _annotations(readers: Iterable[Binding], said: Iterable[Described]) -> list[Any]:
    found: list[Any] = [str]
    for reader in readers:
        signature = reader.signature
        found += [annotation for _, annotation in signature.tokens]
        found += [query.annotation for query in signature.query]
        found += [signature.body.annotation] if signature.body is not None else []
    return [*found, *(each.returns for each in said)]


def _plain(value: Any) -> Any:
    """A default as JSON has it; UNSET where it has no such form."""
    try:
        return to_builtins(value)
    except (TypeError, ValueError):
        return UNSET


def _server(host: str) -> dict[str, Any]:
    if not host.startswith("*."):
        return {"url": f"//{host}"}
    return {"url": f"//{{label}}.{host[2:]}", "variables": {"label": {"default": "www"}}}


def _scheme(settings: AuthSettings) -> dict[str, Any]:
    match settings:
        case ApiKeySettings(header=header) if header.lower() == "authorization":
            return {"type": "http", "scheme": "bearer"}
        case ApiKeySettings(header=header):
            return {"type": "apiKey", "in": "header", "name": header}
        case JwtSettings():
            return {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
        case WebhookSettings(style=style, header=header):
            name = SIGNATURES.get(style, header)
            return {
                "type": "apiKey",
                "in": "header",
                "name": name,
                "description": "HMAC-SHA256 over the body.",
            }


SIGNATURES: Mapping[str, str] = {
    "github": "X-Hub-Signature-256", "stripe": "Stripe-Signature", "standard": "Webhook-Signature",
}  # fmt: skip
