"""What one fact says, as rows of the tables. What came from outside becomes values here that both databases take."""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from notifier.domain import fact as facts
from notifier.domain import wire
from notifier.domain.fact import Kind
from notifier.domain.tier import LONGEST, Tier
from notifier.errors import InvalidTier, NotifierError
from notifier.ledger import standing

#: Bytes of a merchant's answer that are kept.
MOST_ANSWER = 2048
#: 3000-01-01, Unix milliseconds. What lies beyond is no moment.
_MOST_MOMENT = 32_503_680_000_000
_MOST_INTEGER = 2**31 - 1
#: Room for what ends a notification of the highest run on the wire, each time in a run of its own.
_MOST_RUN = wire.MOST_RUN + 2**20
_MOST_TEXT = 4096
#: An acceptance further back than this before a fact is a clock that is wrong, not a notification that waited.
_LONGEST_WAIT = (LONGEST + 14 * 86_400) * 1000
#: What they tell of is no end and no hindrance.
_WITHOUT_REASON = (Kind.ACCEPTED, Kind.REPLAYED, Kind.RELEASED, Kind.ATTEMPTED)
_KINDS = {kind.value: kind for kind in Kind}

Row = dict[str, Any]


class BadFact(NotifierError):
    """A fact that cannot be stored, now or ever; the message says why."""


@dataclass(frozen=True, slots=True)
class Read:
    """A fact, read. event or attempt: exactly one is a row. notification: the row as if this were the only fact of it;
    None where nobody knows which notification it was.
    """

    kind: Kind
    id: str
    event: Row | None
    attempt: Row | None
    notification: Row | None


def read(told: object) -> Read:
    """The rows of one fact of the wire. Raises BadFact."""
    if not isinstance(told, Mapping):
        raise BadFact(f"a fact is a JSON object, and this is {told!r:.80}")
    version = told.get("v")
    if isinstance(version, bool) or not isinstance(version, int) or version != facts.VERSION:
        raise BadFact(
            f"a fact of version {version!r:.20}; this notifier reads version {facts.VERSION}: update it first"
        )
    kind = _KINDS.get(str(told.get("kind")))
    if kind is None:
        raise BadFact(f"a fact of kind {told.get('kind')!r:.40} is not known: possible are {', '.join(_KINDS)}")
    fact_id, notification = _name(told, "id", 64), _subject(told, kind)
    run, at = _whole_number(told, "run", 0, _MOST_RUN), _moment_of(told, "at")
    attempt = _attempt(told, notification, run, at) if kind is Kind.ATTEMPTED else None
    event = None if attempt else _event(told, fact_id, notification, run, kind, at)
    key = attempt["attempt"] if attempt else fact_id  # an attempt is counted once, whoever tells it
    summary = _summary(told, key, notification, run, kind, at, attempt) if notification else None
    return Read(kind, fact_id, event, attempt, summary)


def _subject(told: Mapping[str, Any], kind: Kind) -> str:
    """The notification's id. A message that could not be read may not have told one."""
    if kind is Kind.POISONED and told.get("notification") == "":
        return ""
    return _name(told, "notification", 128)


def _attempt(told: Mapping[str, Any], notification: str, run: int, at: int) -> Row:
    started = told.get("started")
    return {
        "attempt": _name(told, "attempt", 64),
        "notification": notification,
        "merchant": _short(told.get("merchant"), 128) or "",
        "run": run,
        "number": _whole_number(told, "number", 1),
        "step": _whole_number(told, "step", 0),
        "tier": _short(told.get("tier"), 32) or "",
        "due": _moment(told.get("due")),
        "started": at if _moment(started) is None else started,
        "late_ms": _real(told.get("late_ms")),
        "duration_ms": _real(told.get("duration_ms")),
        "address": _short(told.get("address")),
        "sent_headers": _json(_mapping(told.get("sent_headers"))),
        "status": _small(told.get("status")),
        "error": _short(told.get("error"), 32),
        "detail": _short(told.get("detail")) or None,
        "answer": _decoded(told, "answer", MOST_ANSWER),
        "decision": _short(told.get("decision"), 16) or "",
        "next_tier": _short(told.get("next_tier"), 32),
    }


def _event(told: Mapping[str, Any], fact_id: str, notification: str, run: int, kind: Kind, at: int) -> Row:
    reason, detail = _reason(told, kind)
    return {
        "id": fact_id,
        "notification": notification,
        "run": run,
        "kind": kind.value,
        "at": at,
        "tier": _short(told.get("tier"), 32),
        "reason": reason,
        "detail": detail,
        "who": _short(told.get("who"), 256),
    }


def _summary(
    told: Mapping[str, Any], key: str, notification: str, run: int, kind: Kind, at: int, attempt: Row | None
) -> Row:
    headers = told.get("headers")
    stated: Mapping[str, Any] = headers if isinstance(headers, Mapping) else {}
    status = standing.status_of(kind)
    reason, detail = (None, None) if kind in _WITHOUT_REASON else _reason(told, kind)
    number = attempt["number"] if attempt else _coming(stated, kind)
    row: Row = {
        "id": notification,
        "merchant": _short(told.get("merchant") or stated.get("merchant"), 128) or "",
        "accepted_at": _accepted(stated, at),
        "updated_at": at,
        "run": run,
        "attempts": 1 if attempt else 0,
        "status_of": standing.status_place(run, number, kind, at, key),
        "status": status,
        "reason": reason,
        "detail": detail,
        "stands_of": standing.newest_place(run, number, kind, at, key),
        "stands": status,
        "stands_why": reason,
        "finished_at": at if standing.is_finished(status) else None,
    }
    place = standing.course_place(run, number, kind, at, key)
    return (
        row | _carried(told, headers, stated, place) | _course(told, stated, at, attempt, place) | _last(attempt, place)
    )


def _coming(stated: Mapping[str, Any], kind: Kind) -> int:
    """The number of the attempt that was to come, by the notification's headers; 0 where they do not say."""
    number = _small(stated.get("attempt"))
    if number is None and kind is Kind.POISONED:  # another's message need not count, and what cannot be read is the end
        return 1 if "attempt" not in stated else _MOST_INTEGER
    return number or 0


def _carried(told: Mapping[str, Any], headers: object, stated: Mapping[str, Any], place: bytes) -> Row:
    """What is needed to send it again, where the fact carries it."""
    payload = told.get("payload")
    if payload is None:
        return dict.fromkeys(("reference", "url", "ladder", "content_type", "headers", "payload")) | {"whole_of": b""}
    return {
        "whole_of": place,
        "reference": _short(stated.get("reference"), 256),
        "url": _short(stated.get("url")),
        "ladder": _short(stated.get("ladder")),
        "content_type": _short(told.get("content_type"), 128),
        "headers": _json(headers),
        "payload": _decoded(told, "payload"),
    }


def _course(told: Mapping[str, Any], stated: Mapping[str, Any], at: int, attempt: Row | None, place: bytes) -> Row:
    """Where it is on its ladder: the coming attempt where one comes, else the last one."""
    if attempt and attempt["next_tier"]:
        tier = attempt["next_tier"]
        return {"step_of": place, "step": attempt["step"] + 1, "tier": tier, "due_at": _after(at, tier)}
    step = attempt["step"] if attempt else _small(told.get("step"), stated.get("step"))
    due = None if attempt else _moment(told.get("due")) or _moment(stated.get("due-at"))
    tier = _short(told.get("tier"), 32) or None
    if step is None:
        return {"step_of": b"", "step": None, "tier": None, "due_at": None}
    return {"step_of": place, "step": step, "tier": tier, "due_at": due}


def _last(attempt: Row | None, place: bytes) -> Row:
    if attempt is None:
        return {"last_of": b"", "last_error": None, "last_status": None}
    return {"last_of": place, "last_error": attempt["error"], "last_status": attempt["status"]}


def _reason(told: Mapping[str, Any], kind: Kind) -> tuple[str | None, str | None]:
    """A short word for filters, and a sentence. Where the fact's reason is a sentence, it is the detail as well."""
    said, detail = _short(told.get("reason")), _short(told.get("detail"))
    if kind is Kind.STOPPED and said is not None and said.startswith("cancelled"):
        return "cancelled", detail or said
    if said is not None and len(said) > 64:
        return said[:63] + "…", detail or said
    return said or None, detail or None


def _accepted(stated: Mapping[str, Any], at: int) -> int:
    moment = _moment(stated.get("enqueued-at"))
    return moment if moment is not None and at - _LONGEST_WAIT <= moment <= at else at


@lru_cache(maxsize=1024)
def _delay(tier: str) -> int | None:
    try:
        return Tier.parse(tier).milliseconds
    except InvalidTier:
        return None


def _after(at: int, tier: str) -> int | None:
    delay = _delay(tier)
    return None if delay is None else at + delay


def _name(told: Mapping[str, Any], field: str, most: int) -> str:
    value = told.get(field)
    if not isinstance(value, str) or not 1 <= len(value) <= most:
        raise BadFact(f"a fact's {field!r} is a text of 1 to {most} characters, and this is {value!r:.140}")
    return clean(value)


def _whole_number(told: Mapping[str, Any], field: str, least: int, most: int = _MOST_INTEGER) -> int:
    value = told.get(field)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise BadFact(f"a fact's {field!r} is a whole number from {least} to {most}, and this is {value!r:.40}")
    return value


def _moment_of(told: Mapping[str, Any], field: str) -> int:
    moment = _moment(told.get(field))
    if moment is None:
        raise BadFact(f"a fact's {field!r} is a moment in Unix milliseconds, and this is {told.get(field)!r:.40}")
    return moment


def _moment(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < _MOST_MOMENT else None


def _small(*values: object) -> int | None:
    """The first of them that is a whole number of reasonable size."""
    for value in values:
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_INTEGER:
            return value
    return None


def _real(value: object) -> float | None:
    try:
        number = float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _short(value: object, most: int = _MOST_TEXT) -> str | None:
    """Text, cut; None for what is no text."""
    return clean(value[:most]) if isinstance(value, str) else None


def clean(text: str) -> str:
    """Without what PostgreSQL and UTF-8 have no form for: NUL, and halves of surrogate pairs."""
    if text.isascii() and "\0" not in text:
        return text
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")


def _mapping(value: object) -> Mapping[str, Any] | None:
    return value if isinstance(value, Mapping) else None


def _json(value: object) -> str | None:
    """As text without any character that needs care: JSON escapes them all."""
    return None if value is None else json.dumps(value, separators=(",", ":"))


def _decoded(told: Mapping[str, Any], field: str, most: int | None = None) -> bytes | None:
    """The bytes of a base64 text; only so much of it is read as is kept."""
    value = told.get(field)
    if value is None:
        return None
    if not isinstance(value, str):
        raise BadFact(f"a fact's {field!r} is base64, and this is {value!r:.40}")
    text = value if most is None else value[: (most // 3 + 1) * 4]
    try:
        return base64.b64decode(text, validate=True)[:most]
    except (binascii.Error, ValueError) as error:
        raise BadFact(f"a fact's {field!r} is base64, and this is not: {error}") from None
