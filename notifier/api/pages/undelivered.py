"""What is undelivered and why, and sending it again: counted first if wanted, then with progress."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from notifier.api import replays as routes
from notifier.api.asking import ask_agent
from notifier.api.filtering import Stated
from notifier.api.notifications import who_of
from notifier.api.pages import frame, looking, story, words
from notifier.api.pages.causes import Cause
from notifier.api.pages.failures import briefly
from notifier.api.pages.frame import PageRoute
from notifier.api.pages.overview import totals
from notifier.api.parts import Given, Parts
from notifier.errors import NotFound
from notifier.ledger import notifications, replays
from notifier.ledger.flow import replayed, sent_again
from notifier.ledger.notifications import Filter
from notifier.ledger.replays import Replay

router = APIRouter(include_in_schema=False, route_class=PageRoute)

#: Notifications that are shown of what a job sent again.
ROWS = 50
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
        "jobs": [{**job.shown(), "words": _aim(job)} for job in jobs],
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
        wanted = [stated(fields)]
    started = [await begin(request, parts, each) for each in wanted]
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
    since = job.created_at - _AROUND
    standing = totals(await replayed(parts.database, since, end, job.by)) if job.done else []
    rows = await sent_again(parts.database, since, end, job.by, ROWS) if job.done else []
    view = {
        "job": job.shown(),
        "headline": _progress(job, standing),
        "lead": f"{_aim(job)}." + (" This page may be left; the work goes on." if job.state == "running" else ""),
        "rows": [story.row(each) for each in rows],
        "more": job.done - len(rows),
    }
    return await frame.page(request, "replay.html", view)


@router.post("/replays/{replay}/stop")
async def stop(request: Request, parts: Given, replay: str) -> Response:
    """What is on its way stays so."""
    fields = await frame.form(request)
    await routes.stop(parts, replay)
    return frame.back(request, fields, f"/replays/{replay}", "Stopped: no more of it is sent again.")


def stated(fields: Mapping[str, list[str]]) -> dict[str, str]:
    """The filter that a form holds."""
    return {name: frame.one(fields, name) for name in Stated.model_fields if frame.one(fields, name)}


async def begin(request: Request, parts: Parts, wanted: Mapping[str, str]) -> str:
    """A job that sends again what fits; its id. Raises Problem, InvalidInput."""
    meant = Stated(**wanted)
    meant.wanted()
    answer = await ask_agent(parts, "replays.start", {"filter": meant.members(), "who": who_of(request)})
    return str(answer["replay"])


async def _chosen(request: Request, parts: Parts, fields: Mapping[str, list[str]]) -> Sequence[Cause]:
    """The selected causes that are still there."""
    keys = set(fields.get("group", ()))
    found = await looking.undelivered(parts, request.app.state.samples)
    return [cause for cause in found.causes if cause.key in keys and cause.again]


def _headline(count: int, merchant: str) -> str:
    whose = f" to {merchant}" if merchant else ""
    if not count:
        return f"Nothing{whose} is undelivered."
    return f"{words.many(count, 'notification')}{whose} {'is' if count == 1 else 'are'} undelivered."


def _progress(job: Replay, standing: Sequence[Mapping[str, Any]]) -> str:
    if job.state == "running":
        return f"Sending {words.many(job.total, 'notification')} again …"
    if job.state == "cancelled":
        return f"Stopped after {words.many(job.done, 'notification')}{_stand(standing)}."
    if job.problem:
        return "This did not come to its end."
    return f"{words.many(job.done, 'notification')} sent again{_stand(standing)}."


def _stand(standing: Sequence[Mapping[str, Any]]) -> str:
    """What became of them so far."""
    told = ", ".join(f"{words.number(each['count'])} {each['word']}" for each in reversed(standing))
    return f": {told}" if told else ""


def _aim(job: Replay) -> str:
    """What it sends again: `corner-books: 4 undelivered, nobody answered at its address`."""
    wanted = job.wanted
    stated = str(wanted.get("status", ""))
    what = "undelivered" if stated in ("", "exhausted") else stated.replace(",", " or ")
    parts = [f"{words.number(job.total)} {what}"]
    parts += [briefly(str(wanted["error"]))] if wanted.get("error") else []
    parts += [str(wanted["reason"])] if wanted.get("reason") else []
    parts += [f"{name} {wanted[name]}" for name in ("reference", "tier", "since", "until") if wanted.get(name)]
    return f"{wanted.get('merchant') or 'All merchants'}: {', '.join(parts)}"
