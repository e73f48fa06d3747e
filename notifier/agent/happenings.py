"""What is told to operators, made of what the agent hears and finds: keys, facts, merchants, the status. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from notifier import logs
from notifier.domain.operations import Event, Happening
from notifier.domain.registration import Registration
from notifier.domain.rest import Rest
from notifier.sections import Operations

#: Seconds for which it is told of a process that it had hung.
_FRESH = 120.0
#: How the master says that a process was ended since it did nothing any more (supervision/vitals.py).
_HUNG = ("gave no sign of life", "did not read its pipe")
#: States of a slot in which nothing of its tier is called, as somebody wanted it.
_WANTED = ("paused", "stopped", "draining")


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is so just now and may go on. since: of that which identifies it. patience: seconds before it is told."""

    event: Event
    subject: str
    sentence: str
    facts: Mapping[str, Any]
    patience: float


def of_breaker(key: str, value: object) -> Happening | None:
    """A breaker of this machine that has opened; None for all other changes, and for what another machine told."""
    rest = Rest.read(key, value)
    if rest is None or rest.probing or (isinstance(value, Mapping) and "machine" in value):
        return None
    until = logs.moment(rest.until)
    sentence = (
        f"merchant {rest.merchant} fails, {rest.failed} of its last {rest.of} attempts did: it is given a rest until "
        f"{until}, what is due for it is held, and goes out by itself once it acknowledges again"
    )
    facts = {
        "merchant": rest.merchant, "failed": rest.failed, "of": rest.of, "since": logs.moment(rest.since),
        "until": until, "tier": rest.tier,
    }  # fmt: skip
    return Happening(Event.BREAKER_OPEN, rest.since, rest.merchant, str(rest.since), sentence, facts)


def of_merchant(merchant: Registration) -> Happening | None:
    """A merchant that is disabled."""
    off = merchant.disabled
    if off is None:
        return None
    by, why = f" by {off.who}" if off.who else "", f": {off.why}" if off.why else ""
    sentence = (
        f"merchant {merchant.id} was disabled{by}{why}. What is meant for it is held until somebody enables it: "
        f"notifier merchants enable {merchant.id}"
    )
    facts = {"merchant": merchant.id, "why": off.why, "who": off.who or None}
    return Happening(Event.MERCHANT_DISABLED, off.since, merchant.id, str(off.since), sentence, facts)


def of_fact(fact: Mapping[str, Any]) -> Happening:
    """A ladder that is used up. These are counted, so each is to be told once."""
    headers = fact.get("headers")
    stated: Mapping[str, Any] = headers if isinstance(headers, Mapping) else {}
    merchant, reason = str(fact.get("merchant") or ""), str(fact.get("reason") or "")[:500]
    reference = stated.get("reference")
    facts = {
        "notification": str(fact["notification"]), "merchant": merchant, "reason": reason,
        "reference": None if reference is None else str(reference)[:256], "tier": fact.get("tier"),
    }  # fmt: skip
    name = fact["notification"]
    sentence = (
        f"notification {name} to {merchant} used up its ladder: {reason or 'no reason is known'}. It is kept; to send "
        f"it again: notifier notifications replay {name}"
    )
    return Happening(Event.NOTIFICATION_EXHAUSTED, int(fact["at"]), "", str(fact["id"]), sentence, facts)


def troubles(status: Mapping[str, Any], heads: Mapping[str, int], operations: Operations, now_ms: int) -> list[Trouble]:
    """What goes on by the master's status. heads: when the first of each tier that waits is due, Unix milliseconds."""
    slots = status["slots"]
    return [*_degraded(slots), *_late(slots, heads, operations, now_ms)]


def hung(status: Mapping[str, Any]) -> Iterator[Happening]:
    """Processes that hung lately, and were started again."""
    for slot in status["slots"]:
        name, reason, uptime = slot["slot"], str(slot["reason"] or ""), slot["uptime"]
        if slot["degraded"] or not any(said in reason for said in _HUNG) or uptime is None or uptime > _FRESH:
            continue
        at = _milliseconds(slot["started"])
        sentence = f"process {name} hung and was started again: {reason}"
        facts = {"slot": name, "state": slot["state"], "reason": reason, "restarts": slot["restarts"]}
        yield Happening(Event.SLOT_DEGRADED, at, f"{name} hung", f"{status['since']} {slot['epoch']}", sentence, facts)


def _degraded(slots: Sequence[Mapping[str, Any]]) -> Iterator[Trouble]:
    for slot in slots:
        if slot["degraded"] or slot["state"] == "degraded":
            name, reason = slot["slot"], slot["reason"] or "no reason is known"
            sentence = (
                f"process {name} keeps ending and is started again and again; its last end: {reason}. What it would do "
                "waits meanwhile"
            )
            facts = {"slot": name, "state": slot["state"], "reason": reason, "restarts": slot["restarts"]}
            yield Trouble(Event.SLOT_DEGRADED, name, sentence, facts, 0.0)


def _late(
    slots: Sequence[Mapping[str, Any]], heads: Mapping[str, int], operations: Operations, now_ms: int
) -> Iterator[Trouble]:
    tiers = {group for slot in slots for group in slot["groups"] if group.startswith("tier:")}
    for group in sorted(tiers):
        own = [slot for slot in slots if group in slot["groups"]]
        tier = group.removeprefix("tier:")
        if all(slot["state"] in _WANTED for slot in own):
            continue
        attempts = max((late for slot in own if (late := _p99(slot)) is not None), default=0.0)
        head = max(0, now_ms - heads[tier]) if tier in heads else 0
        late_s = max(attempts, head) / 1000
        if late_s < operations.late:
            continue
        what = (
            f"one attempt in a hundred starts {attempts / 1000:.0f} s or more after its due moment"
            if attempts >= head
            else f"what waits there longest is due for {head / 1000:.0f} s"
        )
        sentence = f"tier {tier} is late: {what}. What waits is late, and not lost"
        facts = {"tier": tier, "late_p99_ms": round(attempts, 1), "head_late_ms": head}
        yield Trouble(Event.TIER_LATE, tier, sentence, facts, operations.late_for)


def _p99(slot: Mapping[str, Any]) -> float | None:
    late = slot["statistics"].get("late_p99_ms")
    return float(late) if isinstance(late, int | float) and not isinstance(late, bool) else None


def _milliseconds(iso: str | None) -> int:
    return 0 if iso is None else int(datetime.fromisoformat(iso).timestamp() * 1000)
