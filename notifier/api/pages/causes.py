"""Why a merchant's notifications are undelivered, in plain words, with what can be done about it from the page. Pure.

Written for somebody who knows nothing of this service: no sentence uses a word of ours without saying what it means.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from notifier.api.pages.failures import phrase, said_of
from notifier.api.pages.judgement import Field, Judgement, Way, place_of
from notifier.api.pages.rests import no_room, resting
from notifier.api.pages.words import Moment, many, milliseconds, stamp
from notifier.domain.rest import Overflow, Rest

_OWN_ADDRESS = (
    "They bring an address of their own from the program that handed them in: {}. If it is wrong, it has to be "
    "corrected there; if its server is well again, send again."
)
_AGAIN_BY_ITSELF = (
    "They failed several times and are tried again by themselves, as long as their ladder has steps. What is corrected "
    "now counts from the next attempt on."
)
#: Characters of the other side's words that are shown.
_LONGEST_QUOTE = 240


@dataclass(frozen=True, slots=True)
class Cause:
    """A judgement on a group of undelivered notifications of one merchant. selection: the filter that finds them."""

    key: str
    merchant: str
    count: int
    newest: Moment | None
    listing: str
    selection: Mapping[str, str]
    tone: str
    sentence: str
    explanation: str
    quote: str
    ways: Sequence[Way]
    again: bool

    @property
    def amount(self) -> str:
        """How many it is about."""
        whose = "its" if self.count == 1 else "their"
        standing = f"still on {whose} ladder" if self.selection.get("status") == "attempted" else "undelivered"
        return f"{many(self.count, 'notification')} {standing}"


def of_group(group: Mapping[str, Any], merchant: Mapping[str, Any] | None) -> Cause:
    """The cause of one group of `ledger.notifications.undelivered`. merchant: as the registry shows it, None if it does
    not know it. Needs of the group: merchant, status, reason, last_error, count, newest; takes last_status, detail,
    answer (of the merchant's server), tried_at (its last attempt), own_url (they bring their own address) and rest
    (`Rest`, where its breaker is not closed now).
    """
    judged = judge(group, merchant)
    selection = selection_of(group)
    ways = list(judged.ways)
    if judged.again:
        one = group["count"] == 1
        label = "Send it again" if one else f"Send all {group['count']:,} again"
        also = "Save, and send it again" if one else f"Save, and send the {group['count']:,} again"
        ways = [replace(way, values=selection, also=also) if way.ask else way for way in ways]
        ways.append(Way(label, "/replays", selection, primary=not any(way.primary for way in ways)))
    return _cause(group, judged, ways, selection)


def of_one(shown: Mapping[str, Any], merchant: Mapping[str, Any] | None) -> Cause:
    """The cause of one undelivered notification."""
    judged = judge(shown, merchant)
    ways = list(judged.ways)
    if judged.again and shown.get("payload_kept", True):
        place = f"/notifications/{quote(shown['id'], safe='')}/replay"
        ways.append(Way("Send it again", place, primary=not any(way.primary for way in ways)))
    return _cause({**shown, "count": 0, "newest": None}, judged, ways, selection_of(shown))


def of_standing(merchant: Mapping[str, Any]) -> Cause | None:
    """Why a merchant is not called although nothing of it is undelivered yet; None when it is called."""
    judged = off(merchant)
    group = {"merchant": merchant["id"], "status": "held", "count": 0, "newest": None}
    return None if judged is None else _cause(group, judged, judged.ways, selection_of(group))


def of_rest(rest: Rest) -> Cause:
    """Why a merchant gets single attempts for a while, although nothing of it may be held yet."""
    judged = resting(rest)
    group = {"merchant": rest.merchant, "status": "held", "reason": "breaker-open", "count": 0, "newest": None}
    return _cause(group, judged, judged.ways, selection_of(group))


def of_overflow(lane: Overflow) -> Cause:
    """Likewise why some of what is meant for it waits here."""
    judged = no_room(lane.merchant)
    group = {"merchant": lane.merchant, "status": "held", "reason": "no-room", "count": 0, "newest": None}
    return _cause(group, judged, judged.ways, selection_of(group))


def _cause(group: Mapping[str, Any], judged: Judgement, ways: Sequence[Way], selection: Mapping[str, str]) -> Cause:
    listing = f"/notifications?{urlencode(selection)}"
    return Cause(
        key=hashlib.sha256(listing.encode()).hexdigest()[:12],
        merchant=group["merchant"],
        count=group["count"],
        newest=group["newest"],
        listing=listing,
        selection=selection,
        tone=judged.tone,
        sentence=judged.sentence,
        explanation=judged.explanation,
        quote=judged.quote,
        ways=ways,
        again=judged.again,
    )


def selection_of(group: Mapping[str, Any]) -> dict[str, str]:
    """The filter of exactly the notifications of a group, as the query of a page and of a replay."""
    named = {"merchant": group["merchant"], "status": group["status"]}
    named |= {"reason": group.get("reason")} if group["status"] in ("held", "stopped") else {}
    named |= {"error": group.get("last_error")} if group["status"] in ("exhausted", "attempted") else {}
    return {name: str(value) for name, value in named.items() if value}


def judge(group: Mapping[str, Any], merchant: Mapping[str, Any] | None) -> Judgement:
    """What is wrong with a group, or with one notification that is undelivered (their fields are the same)."""
    match group["status"], group.get("reason"):
        case "held", reason:
            return _held(group, str(reason), merchant)
        case "poisoned", _:
            return Judgement(
                "bad",
                "They could not be read.",
                "A message in RabbitMQ was not in the form that this service understands. Its producer has to be "
                "corrected; what came is kept and shown by `notifier poison list`.",
                quote=str(group.get("detail") or group.get("reason") or ""),
                again=False,
            )
        case "attempted", _:
            return _climbing(group, merchant)
        case "stopped", reason if str(reason).startswith("cancelled"):
            return Judgement("idle", "They were cancelled by hand.", "Nothing is wrong; they can be sent again.")
        case "stopped", _:
            return _gone(group, merchant)
        case _:
            return _failed(group, merchant)


def off(merchant: Mapping[str, Any]) -> Judgement | None:
    """Why a registered merchant is not called now at all; None when it is."""
    name, place = merchant["id"], place_of(merchant["id"])
    if merchant["standing"] == "blocked":
        until = f" until {stamp(merchant['until'])}" if merchant.get("until") else ""
        return Judgement(
            "held",
            f"{name} is blocked{until}.{_told(merchant)}",
            "Nothing is sent to it. What is meant for it is kept here, and goes out by itself once it is unblocked.",
            [Way(f"Unblock {name}", f"{place}/unblock", primary=True)],
            again=False,
        )
    if merchant["standing"] == "disabled":
        return Judgement(
            "held",
            f"{name} is disabled.{_told(merchant)}",
            "Nothing is sent to it. What is meant for it is kept here, and goes out by itself once it is enabled.",
            [Way(f"Enable {name}", f"{place}/enable", primary=True)],
            again=False,
        )
    return None


def _held(group: Mapping[str, Any], reason: str, merchant: Mapping[str, Any] | None) -> Judgement:
    name, place = group["merchant"], place_of(group["merchant"])
    if merchant is not None and (now := off(merchant)) is not None:
        return now
    if reason == "unknown-merchant" and (merchant is None or not merchant.get("url")):
        return Judgement(
            "held",
            f"Nobody has said where {name} is to be reached.",
            f"{name} is not registered with an address, and its notifications bring none of their own. They are kept "
            "here, and go out by themselves once the address is known.",
            [
                Way(
                    f"Save, and send to {name}",
                    f"{place}/url",
                    primary=True,
                    ask=Field("url", f"Address (URL) of {name}", hint="https://shop.example/webhooks", kind="url"),
                )
            ],
            again=False,
        )
    if reason in ("blocked", "disabled", "unknown-merchant"):
        if reason == "blocked" and merchant is None:
            return Judgement(
                "held",
                f"{name} is blocked.",
                "It was blocked by an operator on one machine. Nothing is sent to it there; what is meant for it is "
                "kept here, and goes out by itself once it is unblocked.",
                [Way(f"Unblock {name}", f"{place}/unblock", primary=True)],
                again=False,
            )
        return Judgement(
            "wait",
            f"{name} may be called again; these are on their way.",
            "They were kept here while it was " + {"unknown-merchant": "unknown"}.get(reason, reason) + ". They are "
            "sent within seconds, the oldest first; there is nothing to do.",
            again=False,
        )
    if reason == "breaker-open":
        return _rested(group, merchant)
    if reason == "no-room":
        return no_room(name, str(group.get("detail") or ""))
    return Judgement(
        "wait",
        f"They are kept back: {reason}.",
        "They are kept here and go out by themselves; there is nothing to do.",
        quote=str(group.get("detail") or ""),
        again=False,
    )


def _rested(group: Mapping[str, Any], merchant: Mapping[str, Any] | None) -> Judgement:
    """Its breaker was open: what it failed with, if one of these was tried before, and how it comes to an end."""
    name, error = group["merchant"], group.get("last_error")
    failure, _, _ = said_of(name, error, group.get("last_status")) if error else ("", "", False)
    rest = group.get("rest")
    if isinstance(rest, Rest):
        return resting(rest, failure, _address_ways(group, merchant))
    return Judgement(
        "bad",
        f"{name} failed so often that it is given a rest.",
        f"{failure} These are kept here. From time to time one of them is sent to try {name}; as soon as it "
        "acknowledges one, all go out by themselves, the oldest first. So its server, or its address, has to be put "
        "right.".strip(),
        _address_ways(group, merchant),
        quote=str(group.get("detail") or ""),
        again=False,
    )


def _gone(group: Mapping[str, Any], merchant: Mapping[str, Any] | None) -> Judgement:
    name = group["merchant"]
    standing = off(merchant) if merchant is not None else None
    return Judgement(
        "bad",
        f"{name} answered 410 Gone: do not call this address any more.",
        "So it was called no more"
        + (f", and {name} was disabled. " if standing else ". ")
        + "If that was a mistake of theirs, or they have a new address, "
        + ("enable it and then send again." if standing else "send again."),
        [*_address_ways(group, merchant), *(standing.ways if standing else ())],
        quote=_quote(group),
        again=standing is None,
    )


def _climbing(group: Mapping[str, Any], merchant: Mapping[str, Any] | None) -> Judgement:
    """It fails, but is tried again: what can be corrected now is worth more than sending again later."""
    if (changed := _changed_since(group, merchant)) is not None:
        sentence = f"{group['merchant']}'s {changed}; the next attempt counts."
        return Judgement("wait", sentence, "It is made by itself, as their ladder says.", again=False)
    judged = _failed(group, merchant)
    ways = [way for way in judged.ways if way.ask] if merchant and merchant["standing"] == "enabled" else judged.ways
    explanation = _AGAIN_BY_ITSELF
    if group.get("own_url"):
        address = _address_of(group.get("url"))
        explanation += f" They bring an address of their own from the program that handed them in: {address}."
    return Judgement("bad", judged.sentence, explanation, ways, quote=judged.quote, again=False)


def _failed(group: Mapping[str, Any], merchant: Mapping[str, Any] | None) -> Judgement:
    name, error, status = group["merchant"], group.get("last_error"), group.get("last_status")
    detail = _quote(group)
    standing = off(merchant) if merchant is not None else None
    sentence, explanation, address = said_of(name, error, status)
    if address and group.get("own_url"):
        explanation = _OWN_ADDRESS.format(_address_of(group.get("url")))
    if standing is not None and merchant is not None:  # nothing sent again would leave before that is changed
        return Judgement(
            "bad", sentence, f"{name} is {merchant['standing']} by now. First undo that, then send again.",
            standing.ways, quote=detail, again=False,
        )  # fmt: skip
    ways: list[Way] = _address_ways(group, merchant) if address else []
    if (changed := _changed_since(group, merchant)) is not None:
        told = f"Before that: {sentence}"
        return Judgement("bad", f"{name}'s {changed}. Send them again now.", told, ways)
    return Judgement("bad", sentence, explanation, ways, quote=detail)


def _address_ways(group: Mapping[str, Any], merchant: Mapping[str, Any] | None) -> list[Way]:
    """Another address, where it would count: not for notifications that bring their own."""
    if merchant is None or group.get("own_url"):
        return []
    place = place_of(merchant["id"])
    return [
        Way(
            "Change the address",
            f"{place}/url",
            ask=Field("url", f"Address (URL) of {merchant['id']}", str(merchant.get("url") or ""), kind="url"),
        )
    ]


def _quote(group: Mapping[str, Any]) -> str:
    """The words of the merchant's server, else the sentence that the failure was told with; one line."""
    said = str(group.get("answer") or "") or str(group.get("reason") or "")
    line = " ".join(said.split())
    if line == phrase(group.get("last_status")) or line == f"answered {phrase(group.get('last_status'))}":
        return ""  # the sentence above says so
    return line if len(line) <= _LONGEST_QUOTE else line[: _LONGEST_QUOTE - 1] + "…"


def _address_of(url: str | None) -> str:
    """An address without what may be secret in it: name and password, query."""
    try:
        parts = urlsplit(url or "")
    except ValueError:
        return "one that cannot be read"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _told(merchant: Mapping[str, Any]) -> str:
    """Since when it is off, by whom and why, as a sentence of its own."""
    since = f"since {stamp(merchant['since'])}" if merchant.get("since") else ""
    who = f"by {merchant['who']}" if merchant.get("who") else ""
    why = str(merchant.get("why") or "").strip().rstrip(".")
    why = "" if why == f"{merchant['standing']} by an operator" else why  # that is what no reason is kept as
    said = ", ".join(part for part in (since, who) if part)
    said = f"{said[:1].upper()}{said[1:]}"
    return f" {': '.join(part for part in (said, why) if part)}." if said or why else ""


def _changed_since(group: Mapping[str, Any], merchant: Mapping[str, Any] | None) -> str | None:
    """What of the merchant was changed after the last of them had failed, and when; None if nothing was."""
    if merchant is None or group.get("own_url") or not group.get("tried_at") or not merchant.get("changed_at"):
        return None
    if milliseconds(merchant["changed_at"]) <= milliseconds(group["tried_at"]):
        return None
    what = "address was" if _elsewhere(merchant.get("url"), group.get("address")) else "settings were"
    return f"{what} changed after these failed ({stamp(merchant['changed_at'])})"


def _elsewhere(url: str | None, address: str | None) -> bool:
    """The url certainly leads to another address than this one, `127.0.0.1:80`; a name says only its port."""
    try:
        parts = urlsplit(url or "")
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
        host = parts.hostname or ""
    except ValueError:
        return False
    called, _, called_port = (address or "").rpartition(":")
    numeric = host.replace(".", "").isdecimal() or ":" in host
    return bool(called) and (str(port) != called_port or (numeric and host != called.strip("[]")))


def ordered(causes: Sequence[Cause]) -> list[Cause]:
    """What somebody must do something about first. Otherwise as given, so that nothing moves while one looks at it."""
    return sorted(causes, key=lambda cause: cause.tone not in ("bad", "held"))
