"""What the first page says, from what the service tells of itself. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from notifier.api.pages import words
from notifier.api.pages.causes import Cause
from notifier.api.pages.course import SPANS, lines, together
from notifier.api.pages.judgement import Way
from notifier.api.pages.looking import Undelivered
from notifier.api.pages.rendering import STATUSES

#: Causes on the first page; the others are one click away.
MOST_CAUSES = 6
#: Milliseconds from which a late head of a tier is a trouble: more than its process may take to restart.
TOO_LATE = 30_000
#: Facts on their way to the ledger from which the pages are said to be behind.
BEHIND = 500

_TONES = {
    "ready": "good", "paused": "pause", "starting": "wait", "draining": "wait", "stopped": "pause",
    "backoff": "bad", "degraded": "bad", "down": "bad",
}  # fmt: skip
_WORST = ("degraded", "down", "backoff", "stopped", "starting", "draining")


def overview(
    live: Mapping[str, Any],
    courses: Mapping[str, Sequence[tuple[int, int]]],
    undelivered: Undelivered | None,
    attempts: Sequence[Mapping[str, Any]],
    off: Sequence[Cause] = (),
    held_back: Sequence[Cause] = (),
) -> dict[str, Any]:
    """The values of overview.html. live: of `api.live`. undelivered: None while the ledger is away. attempts:
    the newest first. off: merchants that are switched off, whether or not anything is held for them. held_back: those
    that are given a rest, or have no room.
    """
    tiers = live["tiers"]
    troubles = troubles_of(live)
    flow = together(courses) if courses else [(0, 0)] * SPANS
    return {
        "headline": _headline(troubles, undelivered, off, held_back),
        "lead": _lead(flow, undelivered),
        "troubles": troubles,
        "causes": undelivered.causes if undelivered else [],
        "off": [*off, *held_back],
        "more_causes": undelivered.groups - len(undelivered.causes) if undelivered else 0,
        "delivered_per_s": _sum(tiers, "delivered_per_s"),
        "failed_per_s": _sum(tiers, "failed_per_s"),
        "waiting": _sum(tiers, "waiting", "due"),
        "held": (live["totals"] or {}).get("held", 0) if live["totals"] is not None else None,
        "late_p99_ms": max((t["late_p99_ms"] for t in tiers if t["late_p99_ms"] is not None), default=None),
        "flow": lines(flow),
        "rungs": _rungs(tiers, courses),
        "attempts": attempts,
        "totals": totals(live["totals"] or {}),
        "slots": [_slot(slot) for slot in live["slots"]],
        "slots_said": _slots_said(live["slots"]),
        "behind": _behind(live),
    }


def troubles_of(live: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What is wrong with the service itself, or keeps merchants from being called whoever they are."""
    found = [
        _trouble("bad", problem, "The figures that it would tell are missing here.") for problem in live["problems"]
    ]
    for tier in live["tiers"]:
        if tier["paused"] or tier["pause"]:
            found.append(_paused(tier))
        elif tier["slots"] and all(slot["state"] == "stopped" for slot in tier["slots"]):
            found.append(
                _trouble(
                    "bad",
                    f"Tier {tier['tier']} is switched off: its process was drained.",
                    _waits(tier),
                    Way(f"Start {tier['tier']}", f"/tiers/{tier['tier']}/resume"),
                )
            )
        elif (tier["head_late_ms"] or 0) > TOO_LATE:
            found.append(
                _trouble(
                    "wait",
                    f"Tier {tier['tier']} is {words.millis(tier['head_late_ms'])} behind.",
                    "More comes in than it can call, or its process is away. What waits is late, and not lost.",
                )
            )
    found += [
        _trouble("bad", f"{slot['slot']} keeps ending: {slot['reason'] or 'no reason is known'}.", _NOTES["degraded"])
        for slot in live["slots"]
        if slot["degraded"] or slot["state"] == "degraded"
    ]
    if live["poison"]:
        found.append(
            _trouble(
                "wait",
                f"{words.many(live['poison'], 'message')} could not be read.",
                "They came in a form that this service does not understand, and are kept: `notifier poison list`.",
            )
        )
    return found


_NOTES = {"degraded": "It is started again and again; its log says more. What it would do waits meanwhile."}


def totals(counts: Mapping[str, int]) -> list[dict[str, Any]]:
    """All notifications by status, as a bar: x and width in per cent."""
    whole = sum(counts.values())
    found, x = [], 0.0
    for status, (word, tone) in STATUSES.items():
        if counts.get(status):
            width = 100 * counts[status] / whole
            tone_of_bar = tone if status != "stopped" else "idle"
            found.append(
                {"status": status, "word": word, "tone": tone_of_bar, "count": counts[status], "x": round(x, 3),
                 "width": round(width, 3)}
            )  # fmt: skip
            x += width
    return found


def _headline(
    troubles: Sequence[Mapping[str, Any]],
    undelivered: Undelivered | None,
    off: Sequence[Cause],
    held_back: Sequence[Cause],
) -> str:
    if any(trouble["tone"] == "bad" for trouble in troubles):
        return "The service needs you."
    if undelivered is None or all(cause.tone == "wait" for cause in undelivered.causes):
        if off:
            return "One merchant is switched off." if len(off) == 1 else f"{len(off)} merchants are switched off."
        if resting := {cause.merchant for cause in held_back}:
            return "One merchant is held back." if len(resting) == 1 else f"{len(resting)} merchants are held back."
        return "Everything is on its way."
    whose = undelivered.merchants
    if len(whose) == 1:
        return f"{next(iter(whose))} is not getting everything."
    return f"{len(whose)} merchants are not getting everything."


def _lead(flow: Sequence[tuple[int, int]], undelivered: Undelivered | None) -> str:
    if undelivered is None:
        return "What merchants got, and what they did not, cannot be told just now; it is not lost."
    delivered, failed = (sum(parts) for parts in zip(*flow, strict=True))
    if not delivered and not failed:
        first = "No merchant was called in the last five minutes."
    else:
        first = f"{words.many(delivered, 'notification')} delivered in the last five minutes."
    if undelivered.count:
        return f"{first} {words.number(undelivered.count)} could not be delivered: below is why, and what to do."
    return f"{first} Nothing is undelivered."


def _paused(tier: Mapping[str, Any]) -> dict[str, Any]:
    pause = tier["pause"] or {}
    until = f" until {words.stamp(pause['until'])}" if pause.get("until") else ""
    since = f" since {words.stamp(pause['since'])}" if pause.get("since") else ""
    who = _who(str(pause.get("who") or ""))
    given = str(pause.get("why") or "").removesuffix(f"({who})").strip()  # who asked the API stands there as well
    why = f": {given}" if given and given != who else ""
    by = f" by {who}" if who else ""
    return _trouble(
        "pause",
        f"Tier {tier['tier']} is paused{since}{by}{until}{why}.",
        _waits(tier),
        Way(f"Resume {tier['tier']}", f"/tiers/{tier['tier']}/resume"),
    )


def _waits(tier: Mapping[str, Any]) -> str:
    return f"What is due for it ({words.number(tier['due'])} now) waits in RabbitMQ; it will be late, but is not lost."


def _trouble(tone: str, sentence: str, explanation: str = "", way: Way | None = None) -> dict[str, Any]:
    return {"key": sentence[:40], "tone": tone, "sentence": _sentence(sentence), "explanation": explanation, "way": way}


def _sentence(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _rungs(tiers: Sequence[Mapping[str, Any]], courses: Mapping[str, Any]) -> list[dict[str, Any]]:
    drawn = [lines(courses.get(tier["tier"], [(0, 0)] * SPANS)) for tier in tiers]
    most = max([(tier["waiting"] or 0) + (tier["due"] or 0) for tier in tiers] + [1])
    rungs = []
    for tier, flow in zip(tiers, drawn, strict=True):
        tone, state = _rung_state(tier)
        waiting = None if tier["waiting"] is None else tier["waiting"] + (tier["due"] or 0)
        figures = ("tier", "in_flight", "head_late_ms", "delivered_per_s", "failed_per_s", "late_p50_ms", "late_p99_ms")
        rungs.append(
            {name: tier[name] for name in figures}
            | {
                "tone": tone,
                "state": state,
                "waiting": waiting,
                "level": round(100 * (waiting or 0) / most, 1),
                "flow": flow,
                "way": _rung_way(tier),
            }
        )
    return rungs


def _rung_state(tier: Mapping[str, Any]) -> tuple[str, str]:
    states = [slot["state"] for slot in tier["slots"]]
    if tier["paused"] or tier["pause"]:
        until = (tier["pause"] or {}).get("until")
        return "pause", f"paused until {words.stamp(until)}" if until else "paused"
    if not states:
        return "idle", "no process here"
    worst = next(
        (state for state in ("degraded", "down", "backoff", "stopped", "starting", "draining") if state in states), None
    )
    if worst is None:
        return "good", "running"
    said = {"backoff": "restarting", "stopped": "drained", "down": "down"}.get(worst, worst)
    return _TONES[worst], said if len(states) == 1 else f"{states.count(worst)} of {len(states)} {said}"


def _rung_way(tier: Mapping[str, Any]) -> dict[str, str] | None:
    if tier["paused"] or tier["pause"]:
        return {"verb": "resume", "label": "Resume"}
    if tier["slots"] and all(slot["state"] == "stopped" for slot in tier["slots"]):
        return {"verb": "resume", "label": "Start"}
    return None


def _slot(slot: Mapping[str, Any]) -> dict[str, Any]:
    said = [f"up {words.span(slot['uptime'])}"] if slot["uptime"] is not None else []
    if slot["restarts"]:
        said.append(
            f"{words.many(slot['restarts'], 'restart')}" + (f", last: {slot['reason']}" if slot["reason"] else "")
        )
    if slot["note"]:
        said.append(slot["note"])
    said += [f"{key}: {error}" for key, error in slot["errors"].items()]
    return {
        "slot": slot["slot"],
        "state": slot["state"],
        "tone": _TONES.get(slot["state"], "idle"),
        "words": " · ".join(said),
    }


def _slots_said(slots: Sequence[Mapping[str, Any]]) -> str:
    well = sum(slot["state"] in ("ready", "paused") for slot in slots)
    return f"{well} of {len(slots)} are well" if slots else "the master does not answer"


def _behind(live: Mapping[str, Any]) -> str:
    said = []
    if live["facts_waiting"] is not None and live["facts_waiting"] > BEHIND:
        said.append(
            f"{words.number(live['facts_waiting'])} facts are on their way into the ledger: these pages are behind."
        )
    back = live["held_back"]
    if resting := back["open"] + back["half-open"]:
        said.append(f"{words.many(resting, 'merchant')} {'is' if resting == 1 else 'are'} given a rest.")
    return " ".join(said)


def _who(text: str) -> str:
    return text.partition(" ")[0] if " uid=" in text else text


def _sum(tiers: Sequence[Mapping[str, Any]], *names: str) -> float | None:
    known = [tier[name] for tier in tiers for name in names if tier[name] is not None]
    return sum(known) if known else None
