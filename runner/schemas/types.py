"""JSON Schemas of annotations: msgspec makes them, and pydantic makes those of its own models."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import msgspec

from runner import models

Schema: TypeAlias = dict[str, Any]

TEMPLATE = "#/components/schemas/{name}"

_UNFIT = re.compile(r"[^A-Za-z0-9._-]+")


class Types:
    """The schemas of many annotations, with shared components. A type without a schema gets `{}`, which allows any value."""

    def __init__(self, annotations: Iterable[Any]) -> None:
        self.components: dict[str, Schema] = {}
        """The schemas to which other schemas refer, by name."""
        self._of_models: dict[str, Schema] = {}
        known = [each for each in annotations if self._has_schema(each)]
        schemas, components = self._made(known)
        self.components = {_name(name): self._renamed(each) for name, each in components.items()}
        self.components |= {
            name: each for name, each in self._of_models.items() if name not in self.components
        }
        self._schemas = [(each, self._renamed(schema)) for each, schema in zip(known, schemas, strict=True)]

    def of(self, annotation: Any) -> Schema:
        """The schema of one of the annotations; `{}`, which allows any value, if there is none."""
        return next(
            (schema for known, schema in self._schemas if known is annotation or known == annotation), {}
        )

    def _has_schema(self, annotation: Any) -> bool:
        try:
            self._made([annotation])
        except Exception:  # noqa: BLE001  making the schema of a user's type may fail in any way
            return False
        return True

    def _made(self, annotations: list[Any]) -> tuple[tuple[Schema, ...], Mapping[str, Schema]]:
        return msgspec.json.schema_components(annotations, schema_hook=self._hook, ref_template=TEMPLATE)

    def _hook(self, cls: type) -> Schema:
        if models.is_model(cls):
            return self._model(cls)
        return {"title": cls.__name__}

    def _model(self, cls: Any) -> Schema:
        from pydantic import TypeAdapter  # noqa: PLC0415  # pydantic is no dependency of ours

        found = TypeAdapter(cls).json_schema(ref_template=TEMPLATE.replace("{name}", "{model}"))
        self._of_models |= found.pop("$defs", {})
        # The model itself becomes a component, too, because many schemas may use it.
        name = _name(cls.__name__)
        reference = {"$ref": TEMPLATE.format(name=name)}
        if found != reference:
            self._of_models[name] = found
        return reference

    def _renamed(self, schema: Any) -> Any:
        """The schema with its references changed to names that the specifications allow: names of generic types have brackets."""
        if isinstance(schema, dict):
            return {
                key: self._reference(each) if key == "$ref" else self._renamed(each)
                for key, each in schema.items()
            }
        return [self._renamed(each) for each in schema] if isinstance(schema, (list, tuple)) else schema

    def _reference(self, text: Any) -> Any:
        if not isinstance(text, str):
            return self._renamed(text)  # a property that is called `$ref`
        start, _, name = text.rpartition("/")
        return f"{start}/{_name(name)}"


def _name(name: str) -> str:
    return _UNFIT.sub("_", name).strip("_") or "_"
