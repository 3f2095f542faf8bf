"""The commands of `runner schema`."""

from __future__ import annotations

from runner.cli.group import LazyGroup

schema_group = LazyGroup(
    "schema",
    help="Print what functions take and give, as a document for other programs.",
    epilog="Example: runner schema openapi > openapi.json",
    lazy={
        "openapi": ("runner.cli.schema.openapi:openapi_command", "Print the HTTP edge as OpenAPI 3.1."),
        "asyncapi": ("runner.cli.schema.asyncapi:asyncapi_command", "Print subjects as AsyncAPI 3.0."),
    },
)
