"""What every request passes before a route sees it: host, site, token, role, size; and what every answer is given.

The rule of the roles is here, in one place: `read` reads, `write` does everything, `merchant` pulls its own. A route
that forgets to ask cannot be a hole.
"""

from __future__ import annotations

import ipaddress
import logging
from http.cookies import CookieError, SimpleCookie
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from notifier import logs
from notifier.api import problems
from notifier.api.identity import COOKIE, Identities, Who
from notifier.api.parts import Parts
from notifier.api.problems import Problem
from notifier.errors import NotifierError

#: Anyone may: a probe, the way in, and what that looks like.
OPEN = frozenset({"/healthz", "/readyz", "/login", "/session", "/session/end"})
OPEN_BELOW = "/static/"
#: What a merchant's own token is for.
PULL = "/v1/pull"
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})

_FIXED = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Gate:
    """The outermost layer. Routes find whoever sends the request in `request.state.who`."""

    def __init__(self, app: ASGIApp, parts: Parts, identities: Identities) -> None:
        self._app = app
        self._parts = parts
        self._identities = identities
        self._limit = parts.settings.api.body_limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            raise RuntimeError(f"the API speaks HTTP, not {scope['type']}")
        self._parts.activity.requests += 1
        answer = _Answer(send, scope["path"])
        try:
            scope.setdefault("state", {})["who"] = await self._admitted(scope)
            await self._app(scope, self._bounded(receive), answer)
        except Problem as problem:
            if problem.kind == "unauthorized" and _wants_page(scope):
                await RedirectResponse(f"/login?next={quote(_target(scope))}", 303)(scope, receive, answer)
            else:
                await problem.response()(scope, receive, answer)
        except NotifierError as error:
            await problems.of(error).response()(scope, receive, answer)
        except ClientDisconnect:  # in the middle of its request: there is nobody to answer
            return
        except Exception as error:
            logs.event("request.failed", logging.ERROR, exc_info=error, method=scope["method"], path=scope["path"])
            if not answer.began:
                await problems.unforeseen().response()(scope, receive, answer)

    async def _admitted(self, scope: Scope) -> Who | None:
        """Who it is, None at an open door. Raises Problem."""
        headers = Headers(scope=scope)
        self._check_host(headers)
        self._check_length(headers)
        path, method = scope["path"], scope["method"]
        bearer = _bearer(headers)
        cookie = None if bearer else _cookie(headers)
        if method not in SAFE:
            _check_site(headers, by_cookie=cookie is not None)
        if path in OPEN or path.startswith(OPEN_BELOW):
            return None
        who = await self._who(bearer, cookie)
        _check_role(who, path, method)
        return who

    async def _who(self, bearer: str | None, cookie: str | None) -> Who:
        if bearer is not None:
            who = await self._identities.of_token(bearer)
            if who is None:
                raise Problem("unauthorized", "this token is not known here; it may have been removed")
            return who
        if cookie is not None and (who := await self._identities.of_cookie(cookie)) is not None:
            return who
        if self._identities.needed:
            raise Problem("unauthorized", "send the header Authorization: Bearer TOKEN; see NOTIFIER_API__TOKEN")
        return self._identities.anyone()

    def _check_host(self, headers: Headers) -> None:
        """Without a token, a page elsewhere must not get here by a name of its own that leads to this machine."""
        if not self._identities.needed and not _is_loopback(headers.get("host", "")):
            raise Problem(
                "forbidden",
                "without a token only localhost, 127.0.0.1 and [::1] are names of this service; "
                "set NOTIFIER_API__TOKEN to use another",
            )

    def _check_length(self, headers: Headers) -> None:
        stated = headers.get("content-length", "0")
        if stated.isdecimal() and int(stated) > self._limit:
            raise self._too_large()

    def _bounded(self, receive: Receive) -> Receive:
        """Counts what comes, since a body may come in chunks of unstated number."""
        came = 0

        async def bounded() -> Message:
            nonlocal came
            message = await receive()
            came += len(message.get("body", b""))
            if came > self._limit:  # this kind of exception is what FastAPI lets pass while it reads a body
                raise HTTPException(413, self._too_large().detail)
            return message

        return bounded

    def _too_large(self) -> Problem:
        return Problem("too-large", f"a request has at most {self._limit:,} bytes here (NOTIFIER_API__BODY_LIMIT)")


class _Answer:
    """Sends an answer, with what every one of them carries. began: something of it is out."""

    def __init__(self, send: Send, path: str) -> None:
        self._send = send
        self._path = path
        self.began = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.began = True
            headers = MutableHeaders(scope=message)
            for name, value in _FIXED.items():
                headers.setdefault(name, value)
            headers.setdefault("Cache-Control", "no-cache" if self._path.startswith(OPEN_BELOW) else "no-store")
        await self._send(message)


def _check_role(who: Who, path: str, method: str) -> None:
    pulls = path == PULL or path.startswith(f"{PULL}/")
    if who.role == "merchant" and not pulls:
        raise Problem("forbidden", f"a merchant's token is for {PULL} alone")
    if who.role == "read" and method not in SAFE:
        raise Problem("forbidden", "this token may only read")


def _check_site(headers: Headers, *, by_cookie: bool) -> None:
    """A page of another site must not make the browser of someone who is let in here do anything.

    Browsers say where a request comes from: https://www.w3.org/TR/fetch-metadata/ and the Origin header. Programs
    say neither, and bring no cookie.
    """
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None:
        foreign = site not in ("same-origin", "none")
    elif origin is not None:
        foreign = origin.partition("://")[2].lower() != headers.get("host", "").lower()
    else:
        foreign = by_cookie
    if foreign:
        raise Problem("forbidden", "a page of another site asked for this; only pages of this service may")


def _bearer(headers: Headers) -> str | None:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if not scheme:
        return None
    if scheme.lower() != "bearer" or not token.strip():
        raise Problem("unauthorized", "the Authorization header must read: Bearer TOKEN")
    return token.strip()


def _cookie(headers: Headers) -> str | None:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return None
    return None if found is None else found.value


def _is_loopback(host: str) -> bool:
    """Whether a Host header names this machine to itself."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _wants_page(scope: Scope) -> bool:
    """Whether a person looks: their browser can be shown the way in instead of a sentence."""
    if scope["method"] != "GET" or scope["path"].startswith("/v1/"):
        return False
    return "text/html" in Headers(scope=scope).get("accept", "")


def _target(scope: Scope) -> str:
    query = scope["query_string"].decode("latin-1")
    return f"{scope['path']}?{query}" if query else str(scope["path"])
