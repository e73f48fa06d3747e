"""Who is held back just now: merchants whose breaker is not closed, and lanes that overflow; read from the keys of the
desired state by which the processes tell each other of it (`breaker/MERCHANT`, `overflow/TIER/MERCHANT`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

BREAKER, OVERFLOW = "breaker/", "overflow/"


@dataclass(frozen=True, slots=True)
class Rest:
    """A merchant that is given a rest, since `failed` of its last `of` attempts failed.

    probing: one attempt is under way, to see whether it answers again. since, until: Unix milliseconds; until: when the
    next attempt is made, of a probe when it is taken for lost. pause: seconds; the next one is twice as long. tier,
    slot: which process found out.
    """

    merchant: str
    probing: bool
    since: int
    until: int
    failed: int
    of: int
    pause: float
    tier: str = ""
    slot: str = ""

    @classmethod
    def read(cls, key: str, value: object) -> Rest | None:
        """None for what is no such key, or was cleared, or was set by hand in a form that no process understands."""
        match value:
            case {
                "state": "open" | "half-open" as state,
                "since": int(since),
                "until": int(until),
                "failed": int(failed),
                "of": int(of),
                "pause": int() | float() as pause,
                **others,
            } if key.startswith(BREAKER):
                tier, slot = str(others.get("tier") or ""), str(others.get("slot") or "")
                merchant, probing = key.removeprefix(BREAKER), state == "half-open"
                return cls(merchant, probing, since, until, failed, of, float(pause), tier, slot)
        return None


@dataclass(frozen=True, slots=True)
class Overflow:
    """A merchant that had more due in a tier than it had room for: the rest is held. since: Unix milliseconds."""

    merchant: str
    tier: str
    since: int

    @classmethod
    def read(cls, key: str, value: object) -> Overflow | None:
        """None as for `Rest.read`."""
        match value:
            case {"since": int(since)} if key.startswith(OVERFLOW):
                tier, slash, merchant = key.removeprefix(OVERFLOW).partition("/")
                return cls(merchant, tier, since) if slash and tier and merchant else None
        return None


def rests(entries: Iterable[tuple[str, object]]) -> list[Rest]:
    """Of all keys, those that began last first."""
    found = [rest for key, value in entries if (rest := Rest.read(key, value)) is not None]
    return sorted(found, key=lambda rest: (-rest.since, rest.merchant))


def overflows(entries: Iterable[tuple[str, object]]) -> list[Overflow]:
    """Likewise."""
    found = [overflow for key, value in entries if (overflow := Overflow.read(key, value)) is not None]
    return sorted(found, key=lambda overflow: (-overflow.since, overflow.tier, overflow.merchant))
