"""What is done to a merchant from the pages: the forms, through the same functions as the JSON routes."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from notifier.api import merchants as routes
from notifier.api.pages import frame, looking, undelivered, words
from notifier.api.pages.frame import PageRoute
from notifier.api.pages.judgement import quoted
from notifier.api.pages.merchants import blank, shown_page
from notifier.api.parts import Given, Parts
from notifier.api.problems import Problem
from notifier.api.resting import rest_of
from notifier.api.tiers import PATIENT
from notifier.domain.notification import check_merchant
from notifier.domain.statement import stated
from notifier.errors import ChildFailed, InvalidMerchant
from notifier.ledger import notifications
from notifier.ledger.notifications import Filter

router = APIRouter(include_in_schema=False, route_class=PageRoute)

#: What a form of a merchant states.
FIELDS = ("url", "ladder", "ack", "concurrency", "rate")

_REGISTERED = (
    "What was kept back for it goes out now. Every call to it is signed with this secret, so that it can tell ours."
)


@router.post("/merchants")
async def add(request: Request, parts: Given) -> Response:
    """Shows the secret, once."""
    fields = await frame.form(request)
    merchant, values = frame.one(fields, "id"), {name: frame.one(fields, name) for name in FIELDS}
    try:
        check_merchant(merchant)
    except ValueError as error:
        return await _new_again(request, parts, {"id": merchant, **values}, {"id": str(error)})
    wanted = {name: value for name, value in _numbers(values).items() if value != ""}
    try:
        _checked(parts, wanted)
        done = await routes.add(request, parts, {"id": merchant, **wanted})
    except InvalidMerchant as error:
        return await _new_again(request, parts, {"id": merchant, **values}, error.problems)
    except Problem as problem:
        said = {"tone": "bad", "words": _sentence(problem)}
        return await _new_again(request, parts, {"id": merchant, **values}, {}, problem.status, said=said)
    return await _secret(request, merchant, done, f"{merchant} is registered.", _REGISTERED)


@router.post("/merchants/{merchant:path}/url")
async def address(request: Request, parts: Given, merchant: str) -> Response:
    """Where it is to be reached; registers it if nobody has."""
    fields = await frame.form(request)
    wanted = {"url": frame.one(fields, "url")}
    it = await looking.registered(parts, merchant)
    if it is None or not it["added"]:
        done = await routes.add(request, parts, {"id": merchant, **wanted})
        return await _secret(request, merchant, done, f"{merchant} is registered.", _REGISTERED)
    done = await routes.change(request, parts, merchant, wanted)
    said = f"{merchant} is called at the new address from now on"
    failed = undelivered.stated(fields)
    if frame.one(fields, "again"):
        place = f"/replays/{await undelivered.begin(request, parts, failed)}"
        return _done(request, {}, merchant, f"{said}, and what had failed is sent again", done, place)
    count = await notifications.count(parts.database, Filter.parse(failed)) if failed else 0
    if count:
        some = "one that failed before does" if count == 1 else f"{words.number(count)} that failed before do"
        said += f". The {some} not go there unless sent again: there is a button for that"
    return _done(request, fields, merchant, said, done)


@router.post("/merchants/{merchant:path}/rotate")
async def rotate(request: Request, parts: Given, merchant: str) -> Response:
    """Shows the new secret, once."""
    fields = await frame.form(request)
    wanted = routes.Rotation.model_validate({"grace": frame.one(fields, "grace") or None})
    done = await routes.rotate(request, parts, merchant, wanted)
    old = "The old one no longer signs." if wanted.grace == 0 else "The old one goes on signing beside it for a while."
    return await _secret(request, merchant, done, f"{merchant} has a new secret.", old)


@router.post("/merchants/{merchant:path}/block")
async def block(request: Request, parts: Given, merchant: str) -> Response:
    """For a while or until it is unblocked."""
    fields = await frame.form(request)
    wanted = {"reason": frame.one(fields, "why") or None, "seconds": frame.one(fields, "for") or None}
    done = await routes.block(request, parts, merchant, routes.WhyAndHowLong.model_validate(wanted))
    return _done(request, fields, merchant, f"{merchant} is blocked: no call to it starts any more", done)


@router.post("/merchants/{merchant:path}/unblock")
async def unblock(request: Request, parts: Given, merchant: str) -> Response:
    """Everywhere: in the registry, and on this machine if it was blocked here alone."""
    fields = await frame.form(request)
    here = merchant in await looking.blocks_here(parts)
    if here:
        await _clear(parts, f"block/{merchant}")
    it = await looking.registered(parts, merchant)
    if it is None or it["standing"] != "blocked":
        said = "is no longer blocked; what was kept back goes out now" if here else "was not blocked"
        return frame.back(request, fields, _place(merchant), f"{merchant} {said}.", "good" if here else "wait")
    done = await routes.unblock(request, parts, merchant, None)
    return _done(request, fields, merchant, f"{merchant} is no longer blocked; what was kept back goes out now", done)


@router.post("/merchants/{merchant:path}/disable")
async def disable(request: Request, parts: Given, merchant: str) -> Response:
    """Until it is enabled."""
    fields = await frame.form(request)
    done = await routes.disable(request, parts, merchant, routes.Why(reason=frame.one(fields, "why") or None))
    return _done(request, fields, merchant, f"{merchant} is disabled: no call to it starts any more", done)


@router.post("/merchants/{merchant:path}/enable")
async def enable(request: Request, parts: Given, merchant: str) -> Response:
    """What was held for it goes out."""
    fields = await frame.form(request)
    done = await routes.enable(request, parts, merchant, None)
    return _done(request, fields, merchant, f"{merchant} is enabled; what was kept back goes out now", done)


@router.post("/merchants/{merchant:path}/close")
async def close(request: Request, parts: Given, merchant: str) -> Response:
    """Ends its rest on this machine."""
    fields = await frame.form(request)
    check_merchant(merchant)
    if rest_of(parts, merchant) is None:
        return frame.back(request, fields, _place(merchant), f"{merchant} is not given a rest any more.", "wait")
    await _clear(parts, f"breaker/{merchant}")
    said = (
        f"{merchant} is called again; what was kept back goes out now. If it goes on failing, it is given a rest again."
    )
    return frame.back(request, fields, _place(merchant), said, "good")


@router.post("/merchants/{merchant:path}/test")
async def test(request: Request, parts: Given, merchant: str) -> Response:
    """To the page of the test notification, which shows what comes of it."""
    done = await routes.test(parts, merchant)
    await looking.arrived(parts, str(done["id"]))
    told = "A test is on its way. This page shows what the merchant's server answers, as soon as it does."
    return frame.said(RedirectResponse(f"/notifications/{done['id']}", 303), told)


@router.post("/merchants/{merchant:path}")
async def change(request: Request, parts: Given, merchant: str) -> Response:
    """All fields of the form, an empty one as the service's own."""
    fields = await frame.form(request)
    values = {name: frame.one(fields, name) for name in FIELDS}
    wanted = {name: None if value == "" else value for name, value in _numbers(values).items()}
    try:
        _checked(parts, wanted)
    except InvalidMerchant as error:
        said = {"tone": "bad", "words": "This was not saved: look at the fields that are marked."}
        return await shown_page(request, parts, merchant, values, error.problems, 422, said=said)
    done = await routes.change(request, parts, merchant, wanted)
    return _done(request, fields, merchant, f"The settings of {merchant} are saved", done)


def _checked(parts: Parts, wanted: Mapping[str, Any]) -> None:
    settings = parts.settings
    stated(wanted, settings.named_ladders, settings.tiers, settings.egress.urls, secret=False)


async def _clear(parts: Parts, key: str) -> None:
    try:
        await parts.line.control("clear", {"key": key, "why": "from the dashboard"}, PATIENT)
    except ChildFailed as error:
        raise Problem("unavailable", f"the master could not do it: {error}") from None


async def _new_again(
    request: Request,
    parts: Parts,
    values: Mapping[str, str],
    problems: Mapping[str, str],
    status: int = 422,
    **around: Any,
) -> Response:
    view = blank(parts) | {"values": values, "problems": problems}
    return await frame.page(request, "merchant_new.html", view, status, **around)


async def _secret(request: Request, merchant: str, done: Mapping[str, Any], headline: str, lead: str) -> Response:
    place, secret = _place(merchant), done["secret"]
    view = {"merchant": merchant, "place": place, "secret": secret, "headline": headline, "lead": lead}
    return await frame.page(request, "secret.html", view)


def _done(
    request: Request,
    fields: Mapping[str, list[str]],
    merchant: str,
    said: str,
    done: Mapping[str, Any],
    place: str | None = None,
) -> Response:
    """To `place`, else to the merchant's page. Which processes do not have the change yet is told, if there are any."""
    live = done.get("live") or {}
    missing = live.get("missing") or []
    where = f" (in {live['live']} of {live['of']} processes)" if missing else ""
    late = f" Not yet: {', '.join(missing)}; they have it within seconds of their return." if missing else ""
    tone = "wait" if missing else "good"
    return frame.back(request, fields, place or _place(merchant), f"{said}{where}.{late}", tone)


def _numbers(values: Mapping[str, str]) -> dict[str, Any]:
    """With those fields as numbers that are some."""
    read: dict[str, Any] = dict(values)
    if values["concurrency"].isdecimal():
        read["concurrency"] = int(values["concurrency"])
    with contextlib.suppress(ValueError):  # the statement says what is wrong with it
        read["rate"] = float(values["rate"]) if values["rate"] else ""
    return read


def _place(merchant: str) -> str:
    return f"/merchants/{quoted(merchant)}"


def _sentence(problem: Problem) -> str:
    return f"{problem.detail[:1].upper()}{problem.detail[1:]}"
