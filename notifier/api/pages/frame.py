"""What every page has around it, and how a form of one is read and answered.

A form is answered with a redirect, and what came of it is said on the page that follows. The sentence travels in a
cookie of some seconds: in the address it could be put there by anybody.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Coroutine, Mapping
from typing import Any
from urllib.parse import parse_qs, quote

from fastapi.routing import APIRoute
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from notifier.api import problems
from notifier.api.identity import LOCAL, Who
from notifier.api.pages.rendering import render
from notifier.api.parts import Parts, parts_of
from notifier.api.problems import Problem
from notifier.errors import NotifierError

_SAID = "notifier_said"
#: Seconds that a sentence waits for its page.
_KEPT = 30
#: Characters of it: a cookie has 4 KiB.
_LONGEST = 700
#: The script that keeps a page up to date names itself with this header: what is said is not meant for it.
REFRESH = "notifier-refresh"

_TITLES = {
    "not-found": "There is no such thing here",
    "unavailable": "That is not possible just now",
    "forbidden": "That is not allowed",
    "internal": "This is a fault of notifier",
}


class PageRoute(APIRoute):
    """A route of a page: what goes wrong is told as a page, or on the page that the form stood on."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The route's handler, with that around it."""
        handler = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handler(request)
            except Problem as problem:
                return await _told(request, problem)
            except NotifierError as error:
                return await _told(request, problems.of(error))
            except ValidationError as error:
                return await _told(request, problems.of_validation(error.errors()))

        return handled


async def page(request: Request, template: str, view: Mapping[str, Any], status: int = 200, **frame: Any) -> Response:
    """A page. frame: what it says of itself, over the usual."""
    said = None if REFRESH in request.headers else _said(request)
    values = {
        "here": _address(request),
        "undelivered": await request.app.state.counts.undelivered(parts_of(request)),
        "sought": "",
        "said": said,
        "signed_in": _signed_in(request),
    } | frame
    answer = HTMLResponse(render(template, view=view, frame=values), status)
    if said is not None:
        answer.delete_cookie(_SAID, httponly=True, samesite="strict")
    return answer


def back(request: Request, fields: Mapping[str, list[str]], to: str, words: str, tone: str = "good") -> Response:
    """To the page that the form stood on, or to `to`, where these words are said."""
    target = local(one(fields, "back") or to)
    return said(RedirectResponse(target, 303), words, tone)


def said(answer: Response, words: str, tone: str = "good") -> Response:
    """This answer, with words that are said on the page that follows."""
    words = words if len(words) <= _LONGEST else words[: _LONGEST - 1] + "…"
    value = base64.urlsafe_b64encode(json.dumps([tone, words], ensure_ascii=False).encode()).decode()
    answer.set_cookie(_SAID, value, max_age=_KEPT, httponly=True, samesite="strict")
    return answer


async def form(request: Request) -> dict[str, list[str]]:
    """The fields of a posted form. Raises Problem for anything else."""
    kind = request.headers.get("content-type", "application/x-www-form-urlencoded").partition(";")[0].strip()
    if kind != "application/x-www-form-urlencoded":
        raise Problem("content-type", "pages take forms (application/x-www-form-urlencoded); programs: /v1")
    try:
        text = (await request.body()).decode()
        return parse_qs(text, keep_blank_values=True, max_num_fields=2000, encoding="utf-8", errors="strict")
    except ValueError:
        raise Problem("malformed", "this form cannot be read") from None


def one(fields: Mapping[str, list[str]], name: str) -> str:
    """A field's text without the blanks around it; nothing if it is not there."""
    return fields.get(name, [""])[-1].strip()


def local(target: str) -> str:
    """A path of this service; anything that a browser could take for another address becomes /."""
    harmless = target.startswith("/") and not target.startswith(("//", "/\\")) and target.isprintable()
    return quote(target, safe="/?&=%:,+@~!$'()*;#") if harmless else "/"


async def _told(request: Request, problem: Problem) -> Response:
    if request.method == "POST":
        sentence = problem.detail[:1].upper() + problem.detail[1:]
        try:
            fields = await form(request)
        except Problem:
            fields = {}
        return back(request, fields, "/", sentence, "bad")
    view = {
        "title": _TITLES.get(problem.kind, "That does not work"),
        "detail": problem.detail[:1].upper() + problem.detail[1:],
        "tone": "find" if problem.kind == "not-found" else "bad",
        "back": "/",
        "back_label": "To the overview",
    }
    return await page(request, "problem.html", view, problem.status)


def _said(request: Request) -> dict[str, str] | None:
    value = request.cookies.get(_SAID)
    if not value:
        return None
    try:
        tone, words = json.loads(base64.urlsafe_b64decode(value))
    except ValueError:
        return None
    return {"tone": tone if tone in ("good", "bad", "wait") else "wait", "words": str(words)}


def _signed_in(request: Request) -> bool:
    who: Who | None = getattr(request.state, "who", None)
    return who is not None and who.id != LOCAL


def _address(request: Request) -> str:
    query = request.url.query
    path = quote(request.url.path, safe="/:@~!$'()*,;=")
    return f"{path}?{query}" if query else path


__all__ = ["REFRESH", "PageRoute", "Parts", "back", "form", "local", "one", "page", "said"]
