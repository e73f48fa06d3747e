"""How a notification stands, by the rule of DESIGN §3, and which of two facts counts: pure.

Facts come twice and in any order. So a row is never told what to become: each group of its columns is taken from the
fact with the greatest place, and the greatest of some places is the same in whatever order they are looked at.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Literal, get_args

from notifier.domain.fact import Kind

Status = Literal["accepted", "attempted", "held", "stopped", "exhausted", "completed", "poisoned"]
STATUSES: tuple[Status, ...] = get_args(Status)
#: Something still happens to these by itself; retention never touches them.
UNFINISHED: tuple[Status, ...] = ("accepted", "attempted", "held")
#: Waiting in the broker for an attempt, or in the middle of one.
WAITING: tuple[Status, ...] = ("accepted", "attempted")
#: The merchant did not get it, or not yet and not for the reason that its time has not come.
UNDELIVERED: tuple[Status, ...] = ("held", "stopped", "exhausted", "poisoned")

#: Sending again only opens a run: it is as if it were accepted once more.
_STATUS: dict[Kind, Status] = {
    Kind.ACCEPTED: "accepted",
    Kind.REPLAYED: "accepted",
    Kind.RELEASED: "accepted",
    Kind.ATTEMPTED: "attempted",
    Kind.EXHAUSTED: "exhausted",
    Kind.STOPPED: "stopped",
    Kind.HELD: "held",
    Kind.POISONED: "poisoned",
    Kind.COMPLETED: "completed",
}
#: Within one run, the later of these counts.
_RANK: tuple[Status, ...] = ("accepted", "attempted", "exhausted", "stopped", "held", "poisoned", "completed")

#: Compared byte by byte, as both databases compare bytes: most significant part first, then the moment, then the fact's
#: own id, so that no two facts have the same place.
_PLACE = struct.Struct(">BIIBQ6s")


def status_of(kind: Kind) -> Status:
    """The status that a fact of this kind says."""
    return _STATUS[kind]


def is_finished(status: str) -> bool:
    """Whether nothing happens to it any more, unless it is replayed."""
    return status not in UNFINISHED


def score(run: int, kind: Kind) -> tuple[bool, int, int]:
    """The greatest one says the status: completed in any run, else what ranks highest in the highest run."""
    return kind is Kind.COMPLETED, run, _RANK.index(_STATUS[kind])


def status_place(run: int, kind: Kind, at: int, fact: str) -> bytes:
    """Which fact says the status: that of the greatest score, and of several the latest. at: Unix milliseconds."""
    completed, of_run, rank = score(run, kind)
    return _PLACE.pack(completed, of_run, 0, rank, at, _tail(fact))


#: Where a fact stands in the course of one attempt: waiting for it, held before it, made, concluded.
PHASE: dict[Kind, int] = {
    Kind.ACCEPTED: 0,
    Kind.REPLAYED: 0,
    Kind.RELEASED: 0,
    Kind.HELD: 1,
    Kind.ATTEMPTED: 2,
}
_CONCLUDED = 3


def course_place(run: int, number: int, kind: Kind, at: int, fact: str) -> bytes:
    """Which fact is furthest on the way. number: 1-based, of the attempt that the fact is about; 0: it does not say."""
    return _PLACE.pack(0, run, number, PHASE.get(kind, _CONCLUDED), at, _tail(fact))


def _tail(fact: str) -> bytes:
    return hashlib.blake2b(fact.encode(), digest_size=6).digest()
