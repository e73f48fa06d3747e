"""The ladder live, and what an operator does to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, ConfigDict, Field

from notifier.api.live import PROMPT, live, pauses_of
from notifier.api.notifications import who_of
from notifier.api.parts import Given, Parts
from notifier.domain.tier import Tier
from notifier.errors import InvalidTier, NotFound
from notifier.logs import moment

router = APIRouter(prefix="/v1", tags=["tiers"])

ALL = "all"
#: Seconds; drain, term and start of a few processes, one after the other.
PATIENT = 300.0
#: Seconds of a pause.
LONGEST = 366 * 24 * 3600.0

Named = Annotated[str, Path(description="a tier such as 5s, or all", examples=["5s"])]


class Pause(BaseModel):
    """Why, and for how many seconds; without them until it is resumed."""

    model_config = ConfigDict(extra="forbid")

    reason: str | None = Field(default=None, max_length=500, examples=["shop-7 is being moved"])
    seconds: float | None = Field(default=None, gt=0, le=LONGEST, examples=[600])


class Reason(BaseModel):
    """Why, for the log."""

    model_config = ConfigDict(extra="forbid")

    reason: str | None = Field(default=None, max_length=500)


@router.get("/tiers", summary="Every tier as it is now")
async def show(parts: Given) -> dict[str, Any]:
    """Queues, processes, lateness, pauses; `problems` says what could not be asked."""
    return await live(parts)


@router.get("/processes", summary="Every process as the master sees it")
async def processes(parts: Given) -> dict[str, Any]:
    """State, restarts, last end, what each says of itself, and how far it has applied what operators want."""
    return dict(await parts.line.control("status", timeout=PROMPT))


@router.post("/tiers/{tier}/pause", summary="Let a tier take no more")
async def pause(request: Request, parts: Given, tier: Named, body: Pause | None = None) -> dict[str, Any]:
    """What runs is finished, what was not begun waits in RabbitMQ; `live` says in how many processes that is so."""
    to, slots = await _addressed(parts, tier)
    body = body or Pause()
    who = who_of(request)
    value = {"paused": True, "who": who}
    asked = {"key": f"pause/{to}", "value": value, "why": _why(body.reason, who), "for": body.seconds, "critical": True}
    pushed = await parts.line.control("push", asked, PATIENT)
    until = None if body.seconds is None else moment(parts.now_ms + round(body.seconds * 1000))
    return {"tier": tier, "paused": True, "until": until, "live": live_in(pushed, slots)}


@router.post("/tiers/{tier}/resume", summary="Let it go on")
async def resume(request: Request, parts: Given, tier: Named, body: Reason | None = None) -> dict[str, Any]:
    """Takes its pause back and starts what was drained. `paused_by` names other pauses that still cover it."""
    to, slots = await _addressed(parts, tier)
    entries = await pauses_of(parts)
    why = _why(None if body is None else body.reason, who_of(request))
    accounts = [
        live_in(await parts.line.control("clear", {"key": entry["key"], "why": why}, PATIENT), slots)
        for entry in entries
        if to == ALL or _target(entry) == to
    ]
    drained = [slot["slot"] for slot in slots if slot["state"] == "stopped"]
    started = [(await parts.line.control("restart", {"to": name}, PATIENT))["slots"] for name in drained]
    others = [_target(entry) for entry in entries if to not in (ALL, _target(entry)) and _covers(entry, slots)]
    return {
        "tier": tier,
        "paused": bool(others),
        "paused_by": others,
        "started": [slot for each in started for slot in each],
        "live": min(accounts, key=lambda account: account["live"], default=None),
    }


@router.post("/tiers/{tier}/drain", summary="End a tier's processes in order")
async def drain(request: Request, parts: Given, tier: Named, body: Reason | None = None) -> dict[str, Any]:
    """What runs is finished, then the processes end and stay away until the tier is resumed."""
    to, _ = await _addressed(parts, tier)
    target = "tier" if to == ALL else to  # not the processes that answer this
    return {"tier": tier, **await parts.line.control("drain", {"to": target}, PATIENT)}


def live_in(pushed: Mapping[str, Any], slots: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """In how many of these slots a change is in force. missing: those where it is not, each with why."""
    wanted = {slot["slot"] for slot in slots}
    results = [result for result in pushed["slots"] if result["slot"] in wanted]
    missing = [
        f"{result['slot']}: {result.get('error') or _SAID.get(result['result'], result['result'])}"
        for result in results
        if result["result"] != "applied"
    ]
    return {"live": len(results) - len(missing), "of": len(wanted), "missing": missing}


_SAID = {
    "gone": "no process just now; its next one has it before it does anything",
    "timeout": "no answer in time; it was restarted, or has it later",
}


async def _addressed(parts: Parts, tier: str) -> tuple[str, list[Mapping[str, Any]]]:
    """The address of a tier as the master knows it, and its slots. Raises NotFound."""
    status = await parts.line.control("status", timeout=PROMPT)
    of_tiers = [slot for slot in status["slots"] if "tier" in slot["groups"]]
    if tier == ALL:
        return ALL, of_tiers
    try:
        to = f"tier:{Tier.parse(tier.removeprefix('tier:')).name}"
    except InvalidTier as error:
        raise NotFound(str(error)) from None
    slots = [slot for slot in of_tiers if to in slot["groups"]]
    if not slots:
        known = ", ".join(each.name for each in parts.settings.tiers)
        raise NotFound(f"no process of this machine serves tier {tier:.40}; configured are {known}")
    return to, slots


def _target(entry: Mapping[str, Any]) -> str:
    return str(entry["key"]).removeprefix("pause/")


def _covers(entry: Mapping[str, Any], slots: Sequence[Mapping[str, Any]]) -> bool:
    target = _target(entry)
    return any(target in (ALL, slot["slot"], *slot["groups"]) for slot in slots)


def _why(reason: str | None, who: str) -> str:
    """The master knows only that this process asked; who asked this process stands beside the reason."""
    return f"{reason} ({who})" if reason else who
