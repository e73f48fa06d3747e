"""One notification in words: what became of it, and what happened on its way. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from notifier.api.pages.failures import phrase
from notifier.api.pages.words import many, millis, milliseconds, nth

#: Statuses in which it waits for its next attempt.
CLIMBING = ("accepted", "attempted")

_EVENTS = {
    "accepted": ("wait", "Accepted"),
    "held": ("held", "Held"),
    "released": ("again", "Released"),
    "replayed": ("again", "Sent again"),
    "stopped": ("bad", "Stopped"),
    "exhausted": ("bad", "Its ladder is used up"),
    "completed": ("good", "Delivered"),
    "poisoned": ("bad", "Could not be read"),
}

_REASONS = {
    "blocked": "the merchant is blocked",
    "disabled": "the merchant is disabled",
    "unknown-merchant": "nobody has said where the merchant is to be reached",
    "breaker-open": "the merchant failed so often that it is given a rest, and is tried with one call now and then",
    "no-room": "the merchant has as many calls under way as it may; its turn comes as they are answered",
}

_BRIEFLY_HELD = {"breaker-open": "given a rest", "no-room": "no room now", "unknown-merchant": "address unknown"}


def row(shown: Mapping[str, Any]) -> dict[str, Any]:
    """One row of a list."""
    return {**shown, "words": last_answer(shown)}


def last_answer(shown: Mapping[str, Any]) -> str:
    """What its last attempt came to, in a word or two."""
    if shown["status"] == "held":
        return _BRIEFLY_HELD.get(shown["reason"], str(shown["reason"] or "held"))
    if shown["last_error"] is None:
        return str(shown["last_status"] or ("acknowledged" if shown["status"] == "completed" else "–"))
    if shown["last_error"] == "status":
        return phrase(shown["last_status"])
    return str(shown["last_error"])


def headline(shown: Mapping[str, Any]) -> str:
    """Its state as a sentence."""
    attempts = shown["attempts"]
    match shown["status"]:
        case "completed":
            took = ""
            if shown["finished_at"] is not None:
                spent = milliseconds(shown["finished_at"]) - milliseconds(shown["accepted_at"])
                took = f", {millis(spent)} after it was accepted"
            return f"Delivered at the {nth(max(attempts, 1))} attempt{took}."
        case "accepted":
            return "Waiting for its first attempt." if not shown["run"] else "Waiting to be sent again."
        case "attempted":
            return f"Not acknowledged yet: {many(attempts, 'attempt')} failed, the next one waits."
        case "held":
            return f"Kept back: {_REASONS.get(shown['reason'], shown['reason'])}."
        case "stopped":
            cancelled = str(shown["reason"]).startswith("cancelled")
            return "Cancelled." if cancelled else "Stopped: the endpoint asked to be called no more."
        case "exhausted":
            return f"Not delivered: {many(attempts, 'attempt')}, and none was acknowledged."
        case "poisoned":
            return "It could not be read."
    return str(shown["status"])


def told(shown: Mapping[str, Any]) -> str:
    """The drawing in words, for those who do not see it."""
    made = [
        f"attempt {each['number']} in tier {each['tier']} {'succeeded' if each['error'] is None else 'failed'}"
        for each in shown["attempt_log"]
    ]
    return "The ladder over time: " + ("; ".join(made) or "no attempt yet") + "."


def entries(shown: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Attempts and events, the newest first. What an attempt says already is not said again by an event."""
    unseen = max(shown["attempts"] - len(shown["attempt_log"]), 0)  # of very many the oldest are not told
    found = [_attempt(count, each) for count, each in enumerate(shown["attempt_log"], unseen + 1)]
    found += [
        _event(number, each)
        for number, each in enumerate(shown["events"])
        if each["kind"] != "completed" and not (each["kind"] == "stopped" and _is_gone(each, shown))
    ]
    return sorted(found, key=lambda entry: (entry["moment"], entry["order"]), reverse=True)


def _attempt(count: int, each: Mapping[str, Any]) -> dict[str, Any]:
    """count: of all its attempts, those included that were made before it was sent again."""
    good = each["error"] is None
    answered = phrase(each["status"]) if each["status"] else (each["error"] or "acknowledged")
    return {
        "key": each["attempt"],
        "moment": milliseconds(each["started"]),
        "order": 1,
        "at": each["started"],
        "tone": "good" if good else "bad",
        "title": f"{nth(count)} attempt: {answered}",
        "words": each["detail"] if not good and each["detail"] != f"answered {answered}" else "",
        "attempt": each,
        "headers": _headers(each["sent_headers"]),
    }


def _event(number: int, each: Mapping[str, Any]) -> dict[str, Any]:
    tone, title = _EVENTS.get(each["kind"], ("idle", each["kind"]))
    said = [_REASONS.get(each["reason"], each["reason"]), each["detail"], f"by {each['who']}" if each["who"] else None]
    if each["kind"] == "exhausted":
        said = said[1:]
    if each["kind"] == "stopped" and str(each["reason"]).startswith("cancelled"):
        title = "Cancelled"
    return {
        "key": f"event-{number}",
        "moment": milliseconds(each["at"]),
        "order": 0 if each["kind"] in ("accepted", "replayed", "released") else 2,
        "at": each["at"],
        "tone": tone,
        "title": title,
        "words": " · ".join(str(part) for part in said if part),
        "attempt": None,
        "headers": [],
    }


def _is_gone(event: Mapping[str, Any], shown: Mapping[str, Any]) -> bool:
    """A 410 stops by itself: its attempt says so."""
    return any(each["run"] == event["run"] and each["status"] == 410 for each in shown["attempt_log"])


def _headers(sent: Any) -> list[tuple[str, str]]:
    if isinstance(sent, str):
        sent = json.loads(sent)
    pairs = sent.items() if isinstance(sent, Mapping) else sent or ()
    return [(str(name), str(value)) for name, value in pairs]
