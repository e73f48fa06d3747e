"""The dashboard's way in and out, where a token is needed: a cookie that scripts cannot read and other sites cannot
send.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs, quote

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from notifier.api.identity import COOKIE, SESSION, Identities
from notifier.api.problems import Problem
from notifier.errors import DatabaseUnavailable

router = APIRouter(include_in_schema=False)


@router.post("/session")
async def open_session(request: Request) -> Response:
    """A form or a JSON object with `token`; a form's `next` is where to go afterwards.

    A form is answered with a redirect: to `next`, to /login?failed=1, or to /login?failed=away where the token cannot
    be looked up now. JSON is answered with 204, 401 or 503.
    """
    given, by_form = await _given(request)
    identities: Identities = request.app.state.identities
    target = _local(given.get("next", "/"))
    try:
        opened = await identities.session(given.get("token", "").strip())
    except DatabaseUnavailable:
        if not by_form:
            raise
        return RedirectResponse(f"/login?failed=away&next={quote(target)}", 303)
    if opened is None:
        if by_form:
            return RedirectResponse(f"/login?failed=1&next={quote(target)}", 303)
        raise Problem("unauthorized", "this token is not known here, or is a merchant's")
    answer = RedirectResponse(target, 303) if by_form else Response(status_code=204)
    answer.set_cookie(
        COOKIE,
        opened[1],
        max_age=SESSION,
        httponly=True,
        samesite="strict",
        secure=_by_tls(request),
    )
    return answer


@router.delete("/session")
async def close_session() -> Response:
    """For scripts."""
    answer = Response(status_code=204)
    answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return answer


@router.post("/session/end")
async def end_session() -> Response:
    """For forms, which know no DELETE."""
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return answer


async def _given(request: Request) -> tuple[dict[str, str], bool]:
    body = await request.body()
    if request.headers.get("content-type", "").startswith("application/json"):
        return {name: value for name, value in _object(body).items() if isinstance(value, str)}, False
    fields = parse_qs(body.decode("utf-8", "replace"), max_num_fields=10)
    return {name: values[-1] for name, values in fields.items()}, True


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Problem("malformed", 'a JSON object is expected: {"token": "…"}')
    return found


def _local(target: str) -> str:
    """A path of this service; anything that a browser could take for another address becomes /."""
    harmless = target.startswith("/") and not target.startswith(("//", "/\\")) and target.isprintable()
    return target if harmless else "/"


def _by_tls(request: Request) -> bool:
    """Whether the browser came by TLS, which may end before this process: its Origin header knows."""
    return request.url.scheme == "https" or request.headers.get("origin", "").startswith("https://")
