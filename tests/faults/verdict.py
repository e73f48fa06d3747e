"""The verdict: from what was sent, received and told, and when faults struck, to figures and violations. Pure.

Times are Unix milliseconds, all read from the clock of one machine.

A violation is a sentence, and there is none where the promises of DESIGN §1 were kept:

- lost: a confirmed notification did not reach its merchant, or the ledger does not have it as completed
- early: an attempt began before its due moment. Of the first that is the moment stamped by the confirmed enqueue plus
  the delay; of each further one the arrival of the attempt before it plus the delay
- order: an attempt came without the one before it
- doubled: a request came twice, or once more than the one before it, although nothing of its notification was in flight
  when a fault struck
- untrue: the ledger has more or fewer attempts than came, beyond those in flight at a fault
- strange: what nobody sent, with another body or a wrong signature
- crowded: a merchant was called more often at once than its cap in one tier process allows
- undrained: a queue still holds messages
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

#: What two clocks' whole milliseconds can differ by: the producer's stamp and the broker's TTL are both cut off.
GRAIN_MS = 2.0
#: How long before a fault something may have come that was in a process's hands when it struck; and how long after,
#: since what had been sent is read by the merchants a moment later. A process that takes the place of a dead one needs
#: longer than that to stand.
IN_HAND_MS, ON_THE_WIRE_MS = 1000.0, 500.0
#: The same where what was struck does not call merchants itself: what it had published goes by the broker and a tier.
RELAYED_MS = 1000.0
#: `isolation.concurrency` as it is by default. All first attempts are of one tier process here, all others of another.
CAP = 20
#: From here on an attempt counts as late, for the time to recover.
LATE_MS = 500.0
#: What a notification may end as in the ledger.
COMPLETED, EXHAUSTED = frozenset({"completed"}), frozenset({"exhausted"})


@dataclass(slots=True)
class Sent:
    """One notification that was handed in. id: also the `key` in its body. attempts: that its merchant needs; 0 for one
    whose address is not allowed, which must end as exhausted and never arrive; and for one that may end as completed,
    whose first attempts reach nobody.

    delays: of its ladder's steps. began: when it was handed in. enqueued_at: as stamped when it was published.
    confirmed: when the broker's confirm was there, None when it never came.
    may_end: as what it may end in the ledger, when that is no matter of `attempts`. What is held there, with its
    payload, had as many of its attempts as it had, and is not lost. breaks: its merchant breaks connections; upon
    that a request may be made a second time, since it may have been a connection kept alive too long.
    """

    id: str
    kind: str
    attempts: int
    delays: tuple[int, ...]
    began: float | None = None
    enqueued_at: float | None = None
    confirmed: float | None = None
    may_end: frozenset[str] | None = None
    breaks: bool = False

    @property
    def ends(self) -> frozenset[str]:
        """As what it may end in the ledger."""
        return self.may_end or (COMPLETED if self.attempts else EXHAUSTED)


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request, as the merchant saw it. beside: requests of this merchant's, of the same attempt, at that moment."""

    id: str
    attempt: int
    moment: float
    key: str
    fault: str | None = None
    beside: int = 1


@dataclass(frozen=True, slots=True)
class Told:
    """One attempt, as the ledger has it. answered: it has an HTTP status, so a request was made."""

    id: str
    attempt: int
    started: float
    answered: bool = True


@dataclass(frozen=True, slots=True)
class Window:
    """When a fault struck. began to ended: what was in flight then may be doubled; the same moment for a sudden death.
    restored: when what was struck stood again. shifted: clocks of the service were wrong meanwhile, and what it signed
    then has such moments in it. handing: the broker died, and with it what handed on what was due just then: such a
    message may be in the queue it left and in the one it went to. Until its queues have leaders again, which is after
    it has booted, it may keep a publish that it does not confirm, which is then made again.
    relayed: what was struck hands notifications to the tiers, as the agent does when it releases them.
    spans: from when to when something was really broken, between began and ended, of a fault that lasts longer than
    what it breaks; none when that is all the time. What was in flight in none of them was not in flight at the fault.
    """

    began: float
    ended: float
    restored: float
    shifted: bool = False
    handing: bool = False
    spans: tuple[tuple[float, float], ...] = ()
    relayed: bool = False

    def meets(self, start: float, end: float) -> bool:
        """Whether something that was in flight from start to end was so at the fault."""
        return self._meets(self.spans or ((self.began, self.ended),), start, end)

    def meets_publish(self, start: float, end: float) -> bool:
        """Whether a publish that was under way from start to its confirm at end was in flight at the fault."""
        return self.meets(start, end) or (self.handing and self._meets(((self.began, self.restored),), start, end))

    def _meets(self, spans: Sequence[tuple[float, float]], start: float, end: float) -> bool:
        wire = RELAYED_MS if self.relayed else ON_THE_WIRE_MS
        return any(start - wire <= ended and end + IN_HAND_MS >= began for began, ended in spans)


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known after a fault was repeated and everything drained.

    rows: of each attempt in the ledger. status: of each notification there.
    depths: messages that each queue still holds. poison: the reasons of those in the poison queue.
    """

    sent: Sequence[Sent]
    arrivals: Sequence[Arrival]
    rows: Sequence[Told]
    status: Mapping[str, str]
    depths: Mapping[str, int]
    windows: Sequence[Window]
    poison: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """sent: confirmed ones. duplicated: requests beyond the first of the same attempt. recovered: seconds, per window.
    held: they are in the ledger with their payload, and go on when their reason ends.

    violations: sentences; kinds: how many of each.
    """

    sent: int
    lost: int
    early: int
    duplicated: int
    recovered: Sequence[float]
    violations: Sequence[str] = field(default_factory=tuple)
    held: int = 0

    @property
    def good(self) -> bool:
        """Whether every promise was kept."""
        return not self.violations


def judge(evidence: Evidence) -> Verdict:
    """Hold every promise against the evidence."""
    bench = _Bench(evidence)
    found = {
        "lost": bench.lost(),
        "early": bench.early(),
        "order": bench.disordered(),
        "doubled": bench.doubled_without_reason(),
        "untrue": bench.untrue(),
        "strange": bench.strange(),
        "crowded": bench.crowded(),
        "undrained": [f"{queue} holds {count}" for queue, count in evidence.depths.items() if count]
        + [f"in poison, since {reason}" for reason in evidence.poison],
    }
    return Verdict(
        sent=len(bench.confirmed),
        lost=len({said.split()[0] for said in found["lost"]}),
        early=len(found["early"]),
        duplicated=sum(len(moments) - 1 for came in bench.came.values() for moments in came.values()),
        recovered=bench.recovered(),
        violations=tuple(f"{kind}: {said}" for kind, all_said in found.items() for said in all_said),
        held=sum(bench.is_held(each) for each in bench.confirmed),
    )


def outstanding(sent: Sequence[Sent], arrivals: Sequence[Arrival]) -> int:
    """How many confirmed notifications have not yet had the attempt that their merchant acknowledges; but for those
    that may be held instead.
    """
    reached: dict[str, int] = defaultdict(int)
    for arrival in arrivals:
        reached[arrival.id] = max(reached[arrival.id], arrival.attempt)
    return sum(
        each.confirmed is not None and reached[each.id] < each.attempts and "held" not in each.ends for each in sent
    )


class _Bench:
    """The evidence, by notification."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._sent = {each.id: each for each in evidence.sent}
        self.confirmed = [each for each in evidence.sent if each.confirmed is not None]
        #: notification → attempt → moments, earliest first
        self.came: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
        for arrival in sorted(evidence.arrivals, key=lambda arrival: arrival.moment):
            self.came[arrival.id][arrival.attempt].append(arrival.moment)
        #: of each attempt in the ledger, how many
        self._rows = Counter((row.id, row.attempt) for row in evidence.rows)
        #: when it started
        self._unanswered = {(row.id, row.attempt): row.started for row in evidence.rows if not row.answered}

    def lost(self) -> list[str]:
        missing = [each for each in self.confirmed if not self._has_all(each) and not self.is_held(each)]
        said = [f"{each.id} ({each.kind}) had attempts {sorted(self._came(each.id))} only" for each in missing]
        for each in self.confirmed:
            status = self._evidence.status.get(each.id, "absent")
            if status not in each.ends:
                said.append(f"{each.id} ({each.kind}) is {status} in the ledger")
        return said

    def is_held(self, each: Sent) -> bool:
        """Whether it waits in the ledger, and may."""
        return "held" in each.ends and self._evidence.status.get(each.id) == "held"

    def early(self) -> list[str]:
        said = []
        for each in self._evidence.sent:
            for attempt, moments in self._came(each.id).items():
                due = self._due(each, attempt)
                if due is not None and moments[0] < due - GRAIN_MS:
                    said.append(f"{each.id} attempt {attempt} came {due - moments[0]:.1f} ms before it was due")
        return said

    def disordered(self) -> list[str]:
        return [
            f"{name} attempt {attempt} came without attempt {attempt - 1} before it"
            for name, came in self.came.items()
            for attempt, moments in came.items()
            if attempt > 1
            and not (attempt - 1 in came and came[attempt - 1][0] <= moments[0])
            and not self._reached_nobody(name, attempt - 1)
        ]

    def doubled_without_reason(self) -> list[str]:
        """Copies that came to be without a fault. Each that there is climbs the ladder, so what needs a reason is every
        attempt of which there are more than of the one before it.

        A copy looks like the one that it was made of, which leaves undecided: whether the arrival that was in flight at
        a fault is the one that was copied; whether more copies came to be at one attempt than had a reason; and whether
        one came to be where another ended, since the count did not grow.
        """
        said = []
        for name, came in self.came.items():
            for attempt in self._grown(name) if not self._was_asked_twice(name, came) else ():
                if not self._has_reason(name, attempt):
                    moments, before = came[attempt], self._copies(name, attempt - 1)
                    times = f"{len(moments)} times" + (f" and the one before {before} times" if before > 1 else "")
                    said.append(
                        f"{name} attempt {attempt} came {times}, no fault near: {self._placed(moments)}"
                        f"{self._handed_in(name, moments[0])}"
                    )
            sent = self._sent.get(name)
            beyond = [attempt for attempt in came if sent and attempt > sent.attempts > 0 and not sent.breaks]
            first = min(beyond, default=1) - 1
            if beyond and not self._was_in_flight(came.get(first, [])) and not self._reached_nobody(name, first):
                moments = [*came.get(first, []), *came[first + 1]]
                said.append(
                    f"{name} came again after its merchant had acknowledged it, no fault near: {self._placed(moments)}"
                )
        return said

    def _grown(self, name: str) -> list[int]:
        """The first attempt of which there are copies, and each of which there are more than of the one before it."""
        doubled = sorted(attempt for attempt, moments in self._came(name).items() if len(moments) > 1)
        return doubled[:1] + [
            attempt for attempt in doubled[1:] if len(self._came(name)[attempt]) > self._copies(name, attempt - 1)
        ]

    def _copies(self, name: str, attempt: int) -> int:
        """How many there were of an attempt: as many as came, or as the ledger has, if some reached nobody."""
        return max(1, len(self._came(name).get(attempt, ())), self._rows[name, attempt])

    def _handed_in(self, name: str, came: float) -> str:
        """When that was, and its confirm, beside its first arrival."""
        sent = self._sent.get(name)
        if sent is None or sent.began is None:
            return ""
        confirmed = "never" if sent.confirmed is None else f"{(came - sent.confirmed) / 1000:.2f} s"
        return f"; handed in {(came - sent.began) / 1000:.2f} s before it came, confirmed {confirmed} before"

    def _placed(self, moments: Sequence[float]) -> str:
        """When these were, beside the last fault before the last of them."""
        before = [window for window in self._evidence.windows if window.began <= max(moments)]
        if not before:
            return "before the first fault"
        last = max(before, key=lambda window: window.began)
        came, ended, restored = (
            [f"{(each - last.began) / 1000:.2f}" for each in some] for some in (moments, [last.ended], [last.restored])
        )
        spans = [f"{(begin - last.began) / 1000:.2f} to {(end - last.began) / 1000:.2f} s" for begin, end in last.spans]
        return (
            f"{' and '.join(came)} s after the last one began, which ended after {ended[0]} s ({restored[0]} restored"
            f"{', broken from ' if spans else ''}{' and '.join(spans)})"
        )

    def untrue(self) -> list[str]:
        """The ledger's rows beside the log. A row of an attempt that was answered stands for a request, always; a
        request whose process died has none, and an attempt that was cut off may have been no request.
        """
        told: dict[tuple[str, int], list[Told]] = defaultdict(list)
        for row in self._evidence.rows:
            told[row.id, row.attempt].append(row)
        said = []
        for name, attempt in told.keys() | {(name, attempt) for name, came in self.came.items() for attempt in came}:
            rows, moments = told.get((name, attempt), []), self._came(name).get(attempt, [])
            sure = sum(row.answered for row in rows)
            excused = self._was_in_flight([*(row.started for row in rows), *moments])
            excused = excused or self._was_asked_twice(name, {attempt: moments}, len(rows))
            excused = excused or (sure == len(moments) and self._may_reach_nobody(name))
            if sure > len(moments) or (len(rows) != len(moments) and not excused and not self._is_refused(name)):
                said.append(f"{name} attempt {attempt} is {len(rows)} times in the ledger, came {len(moments)} times")
        return said

    def strange(self) -> list[str]:
        said = []
        for arrival in self._evidence.arrivals:
            if self._is_refused(arrival.id):
                said.append(f"{arrival.id} came to an address that is not allowed")
            if arrival.id not in self._sent:
                said.append(f"{arrival.id} came and nobody sent it")
            elif arrival.key != arrival.id:
                said.append(f"{arrival.id} came with the body of {arrival.key}")
            if arrival.fault is not None and not self._was_signed_by_a_wrong_clock(arrival):
                said.append(f"{arrival.id} came with a wrong signature: {arrival.fault}")
        return said

    def crowded(self) -> list[str]:
        return [
            f"{arrival.id} attempt {arrival.attempt} came as one of {arrival.beside} at once"
            for arrival in self._evidence.arrivals
            if arrival.beside > CAP
        ]

    def recovered(self) -> list[float]:
        """Per window: until what was struck stood again, and nothing of the stream came late any more."""
        late = sorted(
            moments[0]
            for each in self._evidence.sent
            if each.may_end is None
            for attempt, moments in self._came(each.id).items()
            if (due := self._due(each, attempt)) is not None and moments[0] - due > LATE_MS
        )
        windows = sorted(self._evidence.windows, key=lambda window: window.began)
        ends = [window.began for window in windows[1:]] + [float("inf")]
        return [
            (max([window.restored, *(moment for moment in late if window.began <= moment < end)]) - window.began) / 1000
            for window, end in zip(windows, ends, strict=True)
        ]

    def _came(self, name: str) -> Mapping[int, list[float]]:
        return self.came.get(name, {})

    def _has_all(self, each: Sent) -> bool:
        came = self._came(each.id)
        return all(attempt in came or self._reached_nobody(each.id, attempt) for attempt in range(1, each.attempts + 1))

    def _is_refused(self, name: str) -> bool:
        sent = self._sent.get(name)
        return sent is not None and sent.attempts == 0 and sent.ends != COMPLETED

    def _may_reach_nobody(self, name: str) -> bool:
        sent = self._sent.get(name)
        return sent is not None and sent.attempts == 0

    def _reached_nobody(self, name: str, attempt: int) -> bool:
        """Whether this attempt was made, by the ledger, and nobody heard of it: no such host, or a fault."""
        started = self._unanswered.get((name, attempt))
        return started is not None and (self._may_reach_nobody(name) or self._was_in_flight([started]))

    def _due(self, each: Sent, attempt: int) -> float | None:
        """None where that cannot be said: it was never stamped, or came without the attempt before it."""
        return min(self._dues(each, attempt), default=None)

    def _dues(self, each: Sent | None, attempt: int) -> list[float]:
        """When each copy of it was due."""
        if each is None or not 1 <= attempt <= len(each.delays):
            return []
        if attempt == 1:
            return [] if each.enqueued_at is None else [each.enqueued_at + each.delays[0]]
        return [moment + each.delays[attempt - 1] for moment in self._came(each.id).get(attempt - 1, ())]

    def _has_reason(self, name: str, attempt: int) -> bool:
        """It was called when a fault struck, or the publish that led to it was under way, or the broker that died was
        handing it on. Where there were copies before, that holds for any of them.
        """
        came, sent = self.came[name], self._sent.get(name)
        before = came.get(attempt - 1, [])
        made_of = came[attempt][: -1 if len(before) > 1 else 1]  # what came last was made of one that came
        if self._was_in_flight(made_of) or self._was_in_flight(before):
            return True
        under_way = self._publishes(sent, attempt)
        if any(window.meets_publish(*publish) for window in self._evidence.windows for publish in under_way):
            return True
        dues = self._dues(sent, attempt)
        if any(
            window.handing and due - ON_THE_WIRE_MS <= window.began <= due + IN_HAND_MS
            for window in self._evidence.windows
            for due in dues
        ):
            return True
        if attempt > 1 or sent is None or sent.began is None:
            return False
        until = sent.confirmed if sent.confirmed is not None else float("inf")
        return any(window.meets_publish(sent.began, until) for window in self._evidence.windows)

    def _publishes(self, sent: Sent | None, attempt: int) -> list[tuple[float, float]]:
        """From when to when the publishes were under way that led to a further attempt: from an arrival of the one
        before it, the latest that can have led to it, until its delay before it came.
        """
        if sent is None or not 1 < attempt <= len(sent.delays):
            return []
        came, delay = self._came(sent.id), sent.delays[attempt - 1]
        before = came.get(attempt - 1, [])
        made = [(before[0], came[attempt][0] - delay)] if before else []
        for moment in came[attempt][:-1] if len(before) > 1 else ():
            published = moment - delay
            made += [(each, published) for each in before if each <= published + GRAIN_MS][-1:]
        return [(began, max(began, until)) for began, until in made]

    def _was_asked_twice(self, name: str, came: Mapping[int, Sequence[float]], at_most: int = 1) -> bool:
        """Whether its merchant breaks connections, and no attempt came more than twice for that."""
        sent = self._sent.get(name)
        return sent is not None and sent.breaks and all(len(moments) <= 2 * at_most for moments in came.values())

    def _was_signed_by_a_wrong_clock(self, arrival: Arrival) -> bool:
        shifted = (window for window in self._evidence.windows if window.shifted)
        return "imestamp too" in (arrival.fault or "") and any(
            window.began <= arrival.moment <= window.restored + IN_HAND_MS for window in shifted
        )

    def _was_in_flight(self, moments: Sequence[float]) -> bool:
        return any(window.meets(moment, moment) for window in self._evidence.windows for moment in moments)


def tally(verdict: Verdict) -> Counter[str]:
    """How many violations of each kind."""
    return Counter(said.partition(":")[0] for said in verdict.violations)
