"""The OpenAPI document: what FastAPI knows from the routes, and what it cannot know of errors and tokens."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from notifier.api.examples import EXAMPLES
from notifier.api.problems import KINDS, MEDIA_TYPE

DESCRIPTION = (
    "Hand in notifications for merchants, see what came of each attempt, send again, and operate the service. "
    "Every error is a problem document (RFC 9457) whose `detail` says what to do. Moments are UTC, ISO 8601. "
    "Lists are read page by page: `next` of one answer is `after` of the next request."
)

_PROBLEM = {
    "title": "Problem",
    "description": "RFC 9457",
    "type": "object",
    "required": ["type", "title", "status"],
    "properties": {
        "type": {"type": "string", "examples": [f"urn:notifier:problem:{kind}" for kind in KINDS]},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"where": {"type": "string"}, "problem": {"type": "string"}},
            },
        },
    },
}


def describe(app: FastAPI) -> None:
    """Have the application give this document. It is made once, when it is first asked for."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's own way to extend the document


def _document(app: FastAPI) -> dict[str, Any]:
    made = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    components = made.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    schemas["Problem"] = _PROBLEM
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    made["security"] = [{"token": []}, {}]  # none is needed on a loopback address without one
    problem = {
        "description": "A problem",
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for path, operations in made["paths"].items():
        for method, operation in operations.items():
            answers = operation["responses"]
            answers.pop("422", None)
            answers["default"] = problem
            if (example := EXAMPLES.get((method, path))) is not None:
                success = next(code for code in ("201", "202", "200") if code in answers)
                answers[success]["content"]["application/json"]["example"] = example
    return made
