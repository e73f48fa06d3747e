"""What went wrong, told as RFC 9457 says: `application/problem+json`, with a sentence the caller can act on.

type is `urn:notifier:problem:KIND`; the kinds are below. `errors` lists single fields where there are several.
"""

from __future__ import annotations

import http
import json
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from notifier.errors import (
    BrokerError,
    ChildFailed,
    Conflict,
    DatabaseUnavailable,
    InvalidInput,
    MessageTooLarge,
    NotFound,
    NotifierError,
    RegistryUnreadable,
)

MEDIA_TYPE = "application/problem+json"
#: Seconds after which something that is away is worth another try.
RETRY_AFTER = 5

#: Kind → HTTP status. `unsupported` is a method or a content type.
KINDS: Mapping[str, int] = {
    "malformed": 400,
    "unauthorized": 401,
    "forbidden": 403,
    "not-found": 404,
    "method": 405,
    "conflict": 409,
    "too-large": 413,
    "content-type": 415,
    "invalid": 422,
    "busy": 429,
    "internal": 500,
    "unavailable": 503,
}
_BY_STATUS = {status: kind for kind, status in KINDS.items()}


class Problem(Exception):
    """An answer that is no success. kind: one of `KINDS`. more: further members of the document."""

    def __init__(self, kind: str, detail: str, *, headers: Mapping[str, str] | None = None, **more: Any) -> None:
        super().__init__(detail)
        self.kind = kind
        self.status = KINDS[kind]
        self.detail = detail
        self.more = more
        self.headers = dict(headers or {})
        if kind == "unavailable":
            self.headers.setdefault("Retry-After", str(RETRY_AFTER))
        if kind == "unauthorized":
            self.headers.setdefault("WWW-Authenticate", 'Bearer realm="notifier"')

    def document(self) -> dict[str, Any]:
        """The JSON of it."""
        return {
            "type": f"urn:notifier:problem:{self.kind}",
            "title": http.HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            **self.more,
        }

    def response(self) -> Response:
        """As it goes out."""
        body = json.dumps(self.document()).encode()  # ASCII: what it repeats may hold half a surrogate pair
        return Response(body, self.status, self.headers, MEDIA_TYPE)


def of(error: NotifierError) -> Problem:
    """The problem that an error of ours is to the caller."""
    match error:
        case MessageTooLarge():
            return Problem("too-large", str(error))
        case NotFound():
            return Problem("not-found", str(error))
        case Conflict():
            return Problem("conflict", str(error))
        case InvalidInput():
            return Problem("invalid", str(error))
        case DatabaseUnavailable() | BrokerError() | ChildFailed() | RegistryUnreadable():
            return Problem("unavailable", str(error))
    return Problem("internal", str(error))


def install(app: FastAPI) -> None:
    """Have every error of the application answered as a problem; what nobody thought of, the gate answers."""
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(NotifierError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return error.response()


async def _ours(request: Request, error: Exception) -> Response:
    assert isinstance(error, NotifierError)
    return of(error).response()


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return of_validation(error.errors()).response()


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    kind = _BY_STATUS.get(error.status_code)
    if kind is None:
        return RedirectResponse("/", error.status_code) if error.status_code < 400 else _other(error)
    detail = {
        "not-found": f"there is nothing at {request.url.path}",
        "method": f"{request.method} is not possible at {request.url.path}",
    }.get(kind, str(error.detail))
    headers = dict(error.headers or {})
    if kind == "method":
        headers["Allow"] = ", ".join(_methods(request)) or headers.get("Allow", "")
    return Problem(kind, detail, headers=headers).response()


def _methods(request: Request) -> list[str]:
    """Everything that is possible at this address: each route knows only of itself."""
    found: set[str] = set()
    for route in request.app.state.routes:
        if isinstance(route, Route) and route.path_regex.match(request.url.path):
            found |= set(route.methods or ())
    return sorted(found)


def _other(error: HTTPException) -> Response:
    document = {"type": "about:blank", "title": str(error.detail), "status": error.status_code}
    return Response(json.dumps(document).encode(), error.status_code, error.headers, MEDIA_TYPE)


def unforeseen() -> Problem:
    """For what nobody thought of; the log has the rest."""
    return Problem("internal", "this is a fault of notifier; its log has the details")


def of_validation(errors: Sequence[Mapping[str, Any]]) -> Problem:
    """The problem of what FastAPI or pydantic found wrong with a request."""
    if any(error["type"] == "json_invalid" for error in errors):
        why = "; ".join(str(error.get("ctx", {}).get("error", error["msg"])) for error in errors)
        return Problem("malformed", f"the body is not JSON: {why}")
    listed = [{"where": _place(error["loc"]), "problem": _sentence(error)} for error in errors[:50]]
    first = listed[0]
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return Problem("invalid", f"{first['where']}: {first['problem']}{more}", errors=listed)


def _place(location: Sequence[str | int]) -> str:
    first, *rest = [str(part) for part in location] or ["body"]
    return f"{first} {'.'.join(rest)}" if rest else first


def _sentence(error: Mapping[str, Any]) -> str:
    said = str(error["msg"])
    return said.removeprefix("Value error, ")
