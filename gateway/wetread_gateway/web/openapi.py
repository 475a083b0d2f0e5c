"""Completes the OpenAPI description with what FastAPI cannot know."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter

from wetread_gateway.web.access import OPEN_PATHS
from wetread_gateway.web.problems import Problem, responses

_BEARER = "bearer"


def describe(app: FastAPI, *, has_tokens: bool) -> None:
    """Have `app` describe its problems, and its tokens where they are asked for."""
    made: dict[str, Any] = {}

    def openapi() -> dict[str, Any]:
        if not made:
            made.update(get_openapi(title=app.title, version=app.version, routes=app.routes))
            _complete(made, has_tokens=has_tokens)
        return made

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way


def _complete(document: dict[str, Any], *, has_tokens: bool) -> None:
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    schemas["Problem"] = TypeAdapter(Problem).json_schema()
    for path, operations in document["paths"].items():
        for operation in operations.values():
            _correct(operation["responses"])
            if has_tokens and path not in OPEN_PATHS:
                operation["security"] = [{_BEARER: []}]
    if has_tokens:
        components["securitySchemes"] = {_BEARER: {"type": "http", "scheme": "bearer"}}
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)


def _correct(answers: dict[str, Any]) -> None:
    """A wrong parameter is answered 400, with a problem; FastAPI describes 422 with a schema of its own."""
    content = answers.get("422", {}).get("content", {}).get("application/json", {})
    if content.get("schema", {}).get("$ref", "").endswith("/HTTPValidationError"):
        del answers["422"]
    for status in (400, 401, 500):
        answers.setdefault(str(status), responses(status)[status])
    for code, answer in answers.items():
        if code >= "400" and "content" not in answer:
            answer["content"] = responses(400)[400]["content"]
