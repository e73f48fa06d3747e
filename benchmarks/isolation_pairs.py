"""The runs of the isolation benchmark in turn: each side alone and beside hanging merchants, pair after pair."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import peer_sides
from benchmarks.broker import Broker
from benchmarks.isolation import IsolationRun
from benchmarks.isolation_figures import OURS, Disturbed, Healthy, IsolationFigures, Pair
from benchmarks.isolation_load import HANGING
from benchmarks.load import MERCHANTS
from benchmarks.peer_run import PeerRun
from benchmarks.receiver import Receiver
from benchmarks.run import Plan

#: The share of the cores' time for which the machine may stand still by itself in a run of ours. A p99 is about a
#: hundredth of that time, so a run with more tells of the host; it is done again, at most so many times, and told.
MOST_STOOD, AGAIN = 0.0025, 3
#: How many times as long the machine may take for the same piece of work in one run of a pair as in the other. The
#: cores of a shared host are half as fast for some seconds or tens of them, and lateness grows faster than that. One of
#: two runs further apart is done again, whichever of them had the later notifications, at most AGAIN times a pair, and
#: told.
MOST_UNLIKE = 1.1


class IsolationPairs:
    """All runs. pairs: how many. peers: names of those beside ours. say: tells what is being done."""

    def __init__(
        self,
        plan: Plan,
        pairs: int,
        peers: Sequence[str],
        broker: Broker,
        receiver: Receiver,
        directory: Path,
        say: Callable[[str], None],
    ) -> None:
        self._plan = plan
        self._pairs = pairs
        self._sides = [OURS, *peers]
        self._broker = broker
        self._receiver = receiver
        self._directory = directory
        self._say = say
        self._token, self._runs = secrets.token_hex(3), 0
        self._disturbed: list[Disturbed] = []
        if peers:
            peer_sides.require_installed()

    async def measure(self) -> IsolationFigures:
        """Side by side, so that what the machine does to one it does to the others a moment later."""
        measured: dict[str, list[Pair]] = {side: [] for side in self._sides}
        for number in range(1, self._pairs + 1):
            for side in self._sides:
                measured[side].append(await self._pair(side, number))
        return IsolationFigures(measured, self._disturbed)

    async def _pair(self, side: str, number: int) -> Pair:
        """Two runs, one right after the other, in which the machine was about as fast."""
        runs = {hang: await self._run(side, number, hang=hang) for hang in (False, True)}
        hang = True
        for _ in range(AGAIN):
            if alike(*runs.values()):
                break
            hang = not hang  # the older one, so that the two stay neighbours
            self._say("once more: the machine was not as fast in one run of the pair as in the other")
            self._disturbed.append(Disturbed(number, hang, runs[hang], runs[not hang].piece_us))
            runs[hang] = await self._run(side, number, hang=hang)
        return Pair(runs[False], runs[True])

    async def _run(self, side: str, number: int, *, hang: bool) -> Healthy:
        self._say(f"isolation, pair {number} of {self._pairs}: {side}, {_who(hang)}")
        for again in range(AGAIN + 1):
            self._runs += 1
            run = await self._measured(side, f"{self._token}-{self._runs}-{side}-{'h' if hang else 'a'}", hang=hang)
            if run.stood is None or run.stood.ms <= self._most_stood_ms or again == AGAIN:
                break
            self._say(f"once more: the machine stood still for {run.stood.ms:.0f} ms meanwhile")
            self._disturbed.append(Disturbed(number, hang, run))
        return run

    async def _measured(self, side: str, name: str, *, hang: bool) -> Healthy:
        await self._broker.settle()
        directory = self._directory / name
        if side == OURS:
            return await IsolationRun(name, self._plan, hang, self._broker, self._receiver, directory).measure()
        peer = peer_sides.PEERS[side]
        return await PeerRun(name, peer, self._plan, hang, self._broker, self._receiver, directory).measure()

    @property
    def _most_stood_ms(self) -> float:
        return self._plan.seconds * 1000 * len(os.sched_getaffinity(0)) * MOST_STOOD


def alike(one: Healthy, other: Healthy) -> bool:
    """Whether the machine was about as fast in both; where it is not known, it is taken to have been."""
    if one.piece_us is None or other.piece_us is None:
        return True
    return max(one.piece_us, other.piece_us) <= MOST_UNLIKE * min(one.piece_us, other.piece_us)


def _who(hang: bool) -> str:
    return f"{HANGING} of {MERCHANTS} merchants hang" if hang else "nobody hangs"


def sentence(plan: Plan) -> str:
    """What was done."""
    return (
        f"{MERCHANTS} merchants, {plan.rate:g} notifications a second for {plan.seconds:g} s, each due after 1 s;\n"
        f"{HANGING} of them hang until their callback is given up after 10 s, or answer at once like the others.\n"
        "notifier: each healthy notification arrived exactly once and none was held; each to a hanging merchant was\n"
        "attempted or held"
    )
