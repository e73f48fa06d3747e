"""How a notification stands, and which of two facts counts: pure.

Its status follows the rule of DESIGN §3: completed in any run wins, else what ranks highest in the highest run. What
still has to happen follows its newest run alone: what was delivered once and is sent again may be held, late or
poisoned like any other.

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
#: Something still happens by itself to what stands so; retention never touches it.
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
#: Within one run the higher one counts. What went to the poison queue is as good as on its way: an operator may send it
#: on, and then whatever becomes of it counts.
_RANK: dict[Status, int] = {
    "accepted": 0,
    "attempted": 1,
    "poisoned": 1,
    "exhausted": 2,
    "stopped": 3,
    "held": 4,
    "completed": 5,
}

#: Compared byte by byte, as both databases compare bytes: most significant part first, then the moment, then the fact's
#: own id, so that no two facts have the same place.
_STANDING = struct.Struct(">BIBIQ6s")
_COURSE = struct.Struct(">IIBQ6s")


def status_of(kind: Kind) -> Status:
    """The status that a fact of this kind says."""
    return _STATUS[kind]


def is_finished(stands: str) -> bool:
    """Whether nothing happens any more, unless it is replayed, to what stands so in its newest run."""
    return stands not in UNFINISHED


#: Where a fact stands in the course of one attempt: waiting for it, held or poisoned before it, made, concluded.
PHASE: dict[Kind, int] = {
    Kind.ACCEPTED: 0,
    Kind.REPLAYED: 0,
    Kind.RELEASED: 0,
    Kind.HELD: 1,
    Kind.POISONED: 1,
    Kind.ATTEMPTED: 2,
}
_CONCLUDED = 3


def status_place(run: int, number: int, kind: Kind, at: int, fact: str) -> bytes:
    """Which fact says the status: one that it was completed, else that of the highest rank in the highest run; of
    several the furthest, then the latest. number: see course_place. at: Unix milliseconds.
    """
    return _standing(kind is Kind.COMPLETED, run, number, kind, at, fact)


def newest_place(run: int, number: int, kind: Kind, at: int, fact: str) -> bytes:
    """Which fact says how the newest run stands: as status_place, but nothing of an earlier run counts."""
    return _standing(False, run, number, kind, at, fact)


def course_place(run: int, number: int, kind: Kind, at: int, fact: str) -> bytes:
    """Which fact is furthest on the way. number: 1-based, of the attempt that the fact is about; 0: it does not say."""
    return _COURSE.pack(run, number, PHASE.get(kind, _CONCLUDED), at, _tail(fact))


def _standing(first: bool, run: int, number: int, kind: Kind, at: int, fact: str) -> bytes:
    return _STANDING.pack(first, run, _RANK[_STATUS[kind]], number, at, _tail(fact))


def _tail(fact: str) -> bytes:
    return hashlib.blake2b(fact.encode(), digest_size=6).digest()
