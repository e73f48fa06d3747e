"""What is undelivered and why, and sending it again: counted first if wanted, then with progress."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from notifier.api import replays as routes
from notifier.api.asking import ask_agent
from notifier.api.filtering import Stated
from notifier.api.notifications import who_of
from notifier.api.pages import frame, looking, words
from notifier.api.pages.causes import Cause
from notifier.api.pages.frame import PageRoute
from notifier.api.pages.overview import totals
from notifier.api.parts import Given, Parts
from notifier.errors import NotFound
from notifier.ledger import notifications, replays
from notifier.ledger.flow import replayed
from notifier.ledger.notifications import Filter
from notifier.ledger.replays import Replay

router = APIRouter(include_in_schema=False, route_class=PageRoute)

#: Milliseconds around a job in which what was sent again counts as its own.
_AROUND = 2_000

_LEAD = (
    "Every reason with what can be done about it. What is kept back goes out by itself once its reason is gone; "
    "what has used up its ladder is sent again by you."
)


@router.get("/undelivered")
async def page(request: Request, parts: Given) -> Response:
    """By merchant and reason, what needs somebody first."""
    merchant = request.query_params.get("merchant", "").strip()
    found = await looking.undelivered(parts, request.app.state.samples, merchant=merchant or None)
    jobs = await replays.running(parts.database)
    view = {
        "merchant": merchant,
        "headline": _headline(found.count, merchant),
        "lead": _LEAD if found.causes else "",
        "causes": found.causes,
        "more": found.groups - len(found.causes),
        "problem": None,
        "jobs": [{**job.shown(), "words": _aim(job.wanted)} for job in jobs],
    }
    return await frame.page(request, "undelivered.html", view)


@router.post("/replays/preview")
async def preview(request: Request, parts: Given) -> Response:
    """How many would be sent again. Sends nothing."""
    fields = await frame.form(request)
    chosen = await _chosen(request, parts, fields)
    if not chosen:
        return frame.back(
            request, fields, "/undelivered", "Nothing is selected: tick what you want to send again.", "wait"
        )
    counted = [await notifications.count(parts.database, Filter.parse(cause.selection).to_send()) for cause in chosen]
    view = {
        "total": sum(counted),
        "groups": [
            {"key": cause.key, "merchant": cause.merchant, "sentence": cause.sentence, "count": count}
            for cause, count in zip(chosen, counted, strict=True)
        ],
    }
    return await frame.page(request, "preview.html", view)


@router.post("/replays")
async def start(request: Request, parts: Given) -> Response:
    """A job for each selected group, or for the filter that the form holds."""
    fields = await frame.form(request)
    if "group" in fields:
        wanted: list[Mapping[str, str]] = [cause.selection for cause in await _chosen(request, parts, fields)]
    else:
        wanted = [{name: frame.one(fields, name) for name in Stated.model_fields if frame.one(fields, name)}]
    started = [await _start(request, parts, each) for each in wanted]
    if not started:
        return frame.back(request, fields, "/undelivered", "There is nothing left of it to send again.", "wait")
    if len(started) == 1:
        return RedirectResponse(f"/replays/{started[0]}", 303)
    said = f"{words.many(len(started), 'job')} began to send again what you selected."
    return frame.said(RedirectResponse("/undelivered", 303), said)


@router.get("/replays/{replay}")
async def show(request: Request, parts: Given, replay: str) -> Response:
    """How far it is, and what became of what it sent."""
    job = await replays.get(parts.database, replay)
    if job is None:
        raise NotFound(f"there is no job {replay!r:.80} that sends anything again")
    end = parts.now_ms if job.finished_at is None else job.finished_at + _AROUND
    standing = totals(await replayed(parts.database, job.created_at - _AROUND, end)) if job.done else []
    merchant = str(job.wanted.get("merchant", ""))
    view = {
        "job": job.shown(),
        "headline": _progress(job),
        "lead": f"{_aim(job.wanted)}. This page may be left; the work goes on.",
        "standing": [{**each, "listing": _listing(merchant, each["status"])} for each in standing],
        "listing": _listing(merchant),
    }
    return await frame.page(request, "replay.html", view)


@router.post("/replays/{replay}/stop")
async def stop(request: Request, parts: Given, replay: str) -> Response:
    """What is on its way stays so."""
    fields = await frame.form(request)
    await routes.stop(parts, replay)
    return frame.back(request, fields, f"/replays/{replay}", "Stopped: no more of it is sent again.")


async def _chosen(request: Request, parts: Parts, fields: Mapping[str, list[str]]) -> Sequence[Cause]:
    """The selected causes that are still there."""
    keys = set(fields.get("group", ()))
    found = await looking.undelivered(parts, request.app.state.samples)
    return [cause for cause in found.causes if cause.key in keys and cause.again]


async def _start(request: Request, parts: Parts, wanted: Mapping[str, str]) -> str:
    stated = Stated(**wanted)
    stated.wanted()
    answer = await ask_agent(parts, "replays.start", {"filter": stated.members(), "who": who_of(request)})
    return str(answer["replay"])


def _headline(count: int, merchant: str) -> str:
    whose = f" to {merchant}" if merchant else ""
    if not count:
        return f"Nothing{whose} is undelivered."
    return f"{words.many(count, 'notification')}{whose} {'is' if count == 1 else 'are'} undelivered."


def _progress(job: Replay) -> str:
    if job.state == "running":
        return f"Sending {words.many(job.total, 'notification')} again …"
    if job.state == "cancelled":
        return f"Stopped after {words.many(job.done, 'notification')}."
    if job.problem:
        return "This did not come to its end."
    return f"{words.many(job.done, 'notification')} {'was' if job.done == 1 else 'were'} sent again."


def _aim(wanted: Mapping[str, Any]) -> str:
    rest = ", ".join(f"{name} {value}" for name, value in wanted.items() if name not in ("merchant", "status"))
    whose = f" of {wanted['merchant']}" if wanted.get("merchant") else ""
    what = str(wanted.get("status", "all")).replace(",", " or ")
    return f"What is {what}{whose}" + (f" ({rest})" if rest else "")


def _listing(merchant: str, status: str = "") -> str:
    named = {name: value for name, value in (("merchant", merchant), ("status", status)) if value}
    return f"/notifications?{urlencode(named)}"
