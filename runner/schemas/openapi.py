"""Makes an OpenAPI 3.1 document of a project's HTTP edge from the types of its functions and from its routes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import UNSET, to_builtins

from runner.annotation import bare
from runner.bindings import Binding
from runner.core.http.authsettings import ApiKeySettings, AuthSettings, JwtSettings, WebhookSettings
from runner.core.http.route import Route
from runner.core.httpendpoint import BODILESS
from runner.discovery import Project
from runner.schemas.described import Described, answers, described, media
from runner.schemas.operations import Operation, operations
from runner.schemas.types import Schema, Types
from runner.signature import EMPTY

VERSION = "3.1.0"
MEDIA = {"json": "application/json", "text": "text/plain", "bytes": "application/octet-stream"}
EVENTS = "text/event-stream"
_TOKEN = re.compile(r"\{([^{}/]+)\}")


def document(project: Project, routes: Iterable[Route], auth: Mapping[str, AuthSettings]) -> dict[str, Any]:
    """The OpenAPI document of a project: its functions with `@route`, and the other routes that it declares."""
    return _Document(project, operations(project, routes), auth).built()


class _Document:
    """Makes the document of one project."""

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
        shapes: dict[str, str] = {}
        for each in self.operations:
            # Paths that differ only in the names of their tokens are one path here, with the names of the first.
            path = shapes.setdefault(_TOKEN.sub("{}", each.path), each.path)
            paths.setdefault(path, {}).setdefault(each.method, self._operation(each, path))
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

    def _operation(self, each: Operation, path: str) -> dict[str, Any]:
        said = (
            self.said[id(each.reader)]
            if each.reader is not None
            else Described(f"{each.method.upper()} {each.path}", "", Any)
        )
        description = "\n\n".join(filter(None, (said.description, each.note)))
        found: dict[str, Any] = {"operationId": self._id(each.name), "summary": said.summary}
        if description:
            found["description"] = description
        if parameters := self._parameters(each, path):
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
        """An id that no other operation has."""
        found, number = name, 2
        while found in self._ids:
            found, number = f"{name}_{number}", number + 1
        self._ids.add(found)
        return found

    def _parameters(self, each: Operation, path: str) -> list[dict[str, Any]]:
        signature = each.reader.signature if each.reader is not None else None
        annotations = dict(signature.tokens) if signature is not None else {}
        named = zip(_TOKEN.findall(path), _TOKEN.findall(each.path), strict=True)
        found: list[dict[str, Any]] = [
            {
                "name": shown, "in": "path", "required": True,
                "schema": self._token(annotations.get(name, str), SUBJECT if name in each.subject_names else SEGMENT),
            }
            for shown, name in named
        ]  # fmt: skip
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
                    "schema": {"type": "string", "pattern": KEY},
                }
            )  # fmt: skip
        return found

    def _token(self, annotation: Any, pattern: str) -> Schema:
        found = self.types.of(annotation) or TEXT
        return {**TEXT, "pattern": pattern} if found == TEXT else found

    def _body(self, each: Operation) -> dict[str, Any] | None:
        if each.method.upper() in BODILESS or each.moved is not None:
            return None
        if each.reader is None:
            return {"content": {"application/json": {"schema": {}}}}
        body = each.reader.signature.body
        if body is None:
            return None
        content = self._content(body.annotation, packed=True)
        if body.default is EMPTY and media(body.annotation) != "json":  # an empty body means the default
            content = {kind: {"schema": {**each["schema"], "minLength": 1}} for kind, each in content.items()}
        return {"required": body.default is EMPTY, "content": content}

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
                "content": {EVENTS: {}},  # OpenAPI 3.1 has no schema for each event of a stream
            }
            return {"200": events, "default": problem}
        if getattr(bare(said.returns), "__module__", "") == "runner.responses":
            return {"200": {"description": "The answer."}, "default": problem}
        kinds, nothing = answers(said.returns)
        found: dict[str, Any] = {}
        if kinds:
            content = [self._content(annotation) for annotation in kinds.values()]
            found["200"] = {
                "description": "The answer.",
                "content": {kind: schema for each in content for kind, schema in each.items()},
            }
        if nothing:
            found["204"] = {"description": "Done." if not kinds else "There is nothing."}
        return {**found, "default": problem}

    def _problem_name(self) -> str:
        return "JetrunnerProblem" if "Problem" in self.types.components else "Problem"

    def _problem(self) -> dict[str, Any]:
        schema = {"$ref": f"#/components/schemas/{self._problem_name()}"}
        return {
            "description": "Why not (RFC 9457).",
            "content": {"application/problem+json": {"schema": schema}},
        }


TEXT: Schema = {"type": "string"}
SEGMENT = r"^(?!\.{1,2}$)[^\x00-\x1f\x7f-\x9f\u2028\u2029]+$"
"""What a segment of a path may hold; the gateway refuses all else before it asks a function."""
SUBJECT = r"^(?![*>]$)[^\s\x00-\x20\x7f-\x9f.]+$"
"""What a segment may hold that becomes a token of a subject."""
KEY = r'^("[!#-\[\]-~]{1,255}"|[!#-~]{1,255})$'
"""What an `Idempotency-Key` may be."""
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
    """A default value as JSON can hold it; UNSET if JSON cannot."""
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
